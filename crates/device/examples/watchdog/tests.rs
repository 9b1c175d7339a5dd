//! The watchdog from both ends, without a machine.

use device::FakeWiring;
use event_manager::{EventManager, SubscriberOps};

use super::*;

// anchor: unit
const PORT: u16 = 0x510;
const IRQ: u32 = 5;

fn wired() -> (FakeWiring, bus::Buses) {
    let mut wiring = FakeWiring::new().unwrap();
    wiring.attach(Watchdog { port: PORT, irq: IRQ }).unwrap();
    let buses = wiring.freeze().unwrap();
    (wiring, buses)
}

fn status(buses: &bus::Buses) -> u8 {
    let mut status = [0];
    buses.pio.read(PORT + 2, &mut status);
    status[0]
}

#[test]
fn a_hungry_watchdog_barks_once() {
    let (mut wiring, buses) = wired();
    let mut io = EventManager::new().unwrap();
    io.add_subscriber(wiring.subscribers.remove(0));
    buses.pio.write(PORT, &1_u16.to_le_bytes());
    let served = io.run_with_timeout(10_000).unwrap();
    assert_eq!((served, wiring.raised(IRQ), status(&buses)), (1, Some(1), BARKED));
    buses.pio.write(PORT + 2, &[BARKED]);
    assert_eq!(status(&buses), 0);
}

#[test]
fn a_watchdog_that_is_fed_after_its_timer_has_fired_keeps_quiet() {
    let mut chip = Chip::new(IrqLine::null()).unwrap();
    chip.set(Some(Duration::ZERO));
    chip.write(TIMEOUT, &60_000_u16.to_le_bytes()).unwrap();
    let mut io = EventManager::new().unwrap();
    let chip = Arc::new(Mutex::new(chip));
    io.add_subscriber(chip.clone());
    assert_eq!(io.run_with_timeout(0).unwrap(), 0);
    assert!(!chip.lock().unwrap().barked);
}
// end: unit

#[test]
fn a_watchdog_that_is_told_zero_sleeps() {
    let mut chip = Chip::new(IrqLine::null()).unwrap();
    chip.write(TIMEOUT, &50_u16.to_le_bytes()).unwrap();
    chip.write(TIMEOUT, &[0, 0]).unwrap();
    assert_eq!((chip.deadline, chip.timer.get().unwrap()), (None, None));
}

// anchor: saving
#[test]
fn saving_and_restoring_changes_nothing_that_a_guest_sees() {
    let (mut wiring, buses) = wired();
    buses.pio.write(PORT, &60_000_u16.to_le_bytes());
    wiring.save_and_restore().unwrap();
    let mut timeout = [0; 2];
    buses.pio.read(PORT, &mut timeout);
    assert_eq!(u16::from_le_bytes(timeout), 60_000);
}

#[test]
fn a_restored_watchdog_barks_when_the_saved_one_would_have() {
    let mut chip = Chip::new(IrqLine::null()).unwrap();
    let state = SavedWatchdog { timeout_ms: 60_000, left_ms: Some(0), barked: false };
    chip.restore(state).unwrap();
    let chip = Arc::new(Mutex::new(chip));
    let mut io = EventManager::new().unwrap();
    io.add_subscriber(chip.clone());
    io.run_with_timeout(10_000).unwrap();
    assert!(chip.lock().unwrap().barked);
}

#[test]
fn a_state_that_cannot_be_is_refused_and_changes_nothing() {
    let mut chip = Chip::new(IrqLine::null()).unwrap();
    let before = chip.save().unwrap();
    let state = SavedWatchdog { timeout_ms: 10, left_ms: Some(11), barked: true };
    let error = chip.restore(state).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`example.watchdog` cannot be restored: 11 ms are left of 10; there cannot be more"
    );
    assert_eq!(chip.save().unwrap(), before);
}
// end: saving

// anchor: conformance
/// What every device on a bus must bear: any access of 1 to 8 bytes at any offset, with any bytes.
/// It refuses what it has no register for and leaves `data` as it was; and whatever was written, its
/// state can be saved and restored.
fn conforms(device: &mut (impl MutBusDevice + Persist), len: u64) {
    for offset in (0..len).chain([len, u64::MAX]) {
        for width in 1..=8 {
            for byte in [0, 1, 0x55, 0x80, 0xff] {
                let mut data = [0xff; 8];
                let data = data.get_mut(..width).unwrap();
                let refused = device.read(offset, data).is_err();
                assert!(!refused || data.iter().all(|byte| *byte == 0xff), "read at {offset:#x}");
                let _ = device.write(offset, &[byte; 8][..width]);
            }
        }
    }
    let state = device.save().unwrap();
    device.restore(state).unwrap();
}

#[test]
fn a_watchdog_conforms() {
    conforms(&mut Chip::new(IrqLine::null()).unwrap(), PORTS.into());
}
// end: conformance
