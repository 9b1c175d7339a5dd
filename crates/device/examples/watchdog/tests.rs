//! The watchdog from both ends, without a machine.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use device::{FakeWiring, IrqLine, MutBusDevice, Persist, conformance};
use event_manager::{EventManager, SubscriberOps};

use crate::watchdog::{Chip, SavedWatchdog, Watchdog};

// anchor: unit
const PORT: u16 = 0x510;
const IRQ: u32 = 5;

/// A watchdog for which no time passes, in wiring without a machine.
fn wired() -> FakeWiring {
    let now = Instant::now();
    let mut wiring = FakeWiring::new().unwrap();
    wiring.attach(Watchdog::new(PORT, IRQ).clock(move || now)).unwrap();
    wiring
}

fn chip() -> Chip {
    Chip::new(Box::new(Instant::now), IrqLine::null()).unwrap()
}

#[test]
fn a_hungry_watchdog_barks_once() {
    let mut wiring = FakeWiring::new().unwrap();
    wiring.attach(Watchdog::new(PORT, IRQ)).unwrap();
    let ports = wiring.freeze().unwrap().pio;
    let mut io = EventManager::new().unwrap();
    io.add_subscriber(wiring.subscribers.remove(0));

    ports.write(PORT, &1_u16.to_le_bytes());
    io.run_with_timeout(10_000).unwrap();

    let mut status = [0];
    ports.read(PORT + 2, &mut status);
    assert_eq!((status, wiring.raised(IRQ)), ([1], Some(1)));
    ports.write(PORT + 2, &[1]);
    ports.read(PORT + 2, &mut status);
    assert_eq!((status, wiring.raised(IRQ)), ([0], Some(1)));
}

#[test]
fn a_watchdog_that_is_fed_in_the_last_moment_keeps_quiet() {
    let mut wiring = wired();
    let ports = wiring.freeze().unwrap().pio;
    let mut io = EventManager::new().unwrap();
    io.add_subscriber(wiring.subscribers.remove(0));
    // The timer of the host goes off, but by the clock of the device it is not time yet.
    ports.write(PORT, &1_u16.to_le_bytes());
    let woken = io.run_with_timeout(10_000).unwrap();
    assert_eq!((woken, wiring.raised(IRQ)), (1, Some(0)));
}
// end: unit

#[test]
fn other_widths_and_ports_are_refused() {
    let mut chip = chip();
    let before = chip.save().unwrap();
    assert!(chip.write(0, &[1]).is_err());
    assert!(chip.write(2, &[1, 0]).is_err());
    assert!(chip.write(3, &[1]).is_err());
    assert!(chip.read(1, &mut [0; 2]).is_err());
    assert_eq!(chip.save().unwrap(), before);
}

// anchor: saving
#[test]
fn a_restored_watchdog_barks_when_the_saved_one_would_have() {
    let mut chip = chip();
    chip.restore(saved(60_000, Some(0))).unwrap();
    let chip = Arc::new(Mutex::new(chip));
    let mut io = EventManager::new().unwrap();
    io.add_subscriber(chip.clone());
    io.run_with_timeout(10_000).unwrap();
    let mut status = [0];
    chip.lock().unwrap().read(2, &mut status).unwrap();
    assert_eq!(status, [1]);
}

#[test]
fn a_state_that_cannot_be_is_refused_and_changes_nothing() {
    let mut chip = chip();
    let before = chip.save().unwrap();
    let error = chip.restore(saved(10, Some(11))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`example.watchdog` cannot be restored: 11 ms are left of 10; there cannot be more"
    );
    assert_eq!(chip.save().unwrap(), before);
}
// end: saving

fn saved(timeout_ms: u16, left_ms: Option<u16>) -> SavedWatchdog {
    SavedWatchdog { timeout_ms, left_ms, barked: false }
}

// anchor: conformance
#[test]
fn a_watchdog_conforms() {
    conformance::bus_device(&mut wired());
}
// end: conformance
