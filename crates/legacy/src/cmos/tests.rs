//! The clock as guests read and set it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bus::Buses;
use device::{FakeWiring, Subscriber};
use event_manager::{EventManager, SubscriberOps};

use super::*;

/// 2024-02-29 23:59:58 UTC, a Thursday.
const LEAP_DAY: u64 = 1_709_251_198;

struct Machine {
    wiring: FakeWiring,
    buses: Buses,
    /// The host's clock, nanoseconds since 1970.
    now: Arc<AtomicU64>,
    clock: Arc<Mutex<Clock>>,
}

impl Machine {
    fn new(seconds: u64) -> Self {
        let now = Arc::new(AtomicU64::new(seconds * 1_000_000_000));
        let host = Arc::clone(&now);
        let host =
            move || SystemTime::UNIX_EPOCH + Duration::from_nanos(host.load(Ordering::SeqCst));
        let mut wiring = FakeWiring::new().unwrap();
        let clock = Cmos::new(3 << 30, 5 << 30).clock(host).connect(&mut wiring).unwrap();
        let buses = wiring.freeze().unwrap();
        Self { wiring, buses, now, clock }
    }

    /// What the I/O thread does when the timer expires.
    fn tick(&self) {
        lock(&self.clock).tick();
    }

    fn pass(&self, time: Duration) {
        self.now.fetch_add(u64::try_from(time.as_nanos()).unwrap(), Ordering::SeqCst);
    }

    fn get(&self, register: u8) -> u8 {
        self.buses.pio.write(0x70, &[register]);
        let mut data = [0];
        self.buses.pio.read(0x71, &mut data);
        data[0]
    }

    fn set(&self, register: u8, value: u8) {
        self.buses.pio.write(0x70, &[register]);
        self.buses.pio.write(0x71, &[value]);
    }

    /// Century, year, month, day, hour, minute, second.
    fn time(&self) -> [u8; 7] {
        [0x32, 9, 8, 7, 4, 2, 0].map(|register| self.get(register))
    }
}

#[test]
fn the_time_is_the_hosts_in_bcd_and_24_hours() {
    let machine = Machine::new(LEAP_DAY);
    assert_eq!(machine.time(), [0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x58]);
    assert_eq!(machine.get(6), 5, "Thursday");
    machine.pass(Duration::from_secs(2));
    assert_eq!(machine.time(), [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00]);
}

#[test]
fn binary_and_12_hours_are_as_the_guest_asks() {
    let machine = Machine::new(LEAP_DAY);
    machine.set(0xb, 0x06);
    assert_eq!(machine.time(), [20, 24, 2, 29, 23, 59, 58]);
    machine.set(0xb, 0x00);
    assert_eq!(machine.get(4), 0x91, "11 pm");
    machine.pass(Duration::from_secs(2));
    assert_eq!(machine.get(4), 0x12, "12 am is midnight");
    machine.pass(Duration::from_secs(12 * 3600));
    assert_eq!(machine.get(4), 0x92, "12 pm is noon");
}

#[test]
fn the_host_clock_is_the_default() {
    let mut wiring = FakeWiring::new().unwrap();
    wiring.attach(Cmos::new(0, 0)).unwrap();
    let pio = wiring.freeze().unwrap().pio;
    pio.write(0x70, &[0x32]);
    let mut century = [0];
    pio.read(0x71, &mut century);
    assert_eq!(century, [0x20]);
}

#[test]
fn a_guest_that_sets_the_clock_keeps_its_offset() {
    let machine = Machine::new(LEAP_DAY);
    machine.set(0xb, 0x82); // stop, as Linux does
    for (register, value) in
        [(9, 0x31), (8, 0x12), (7, 0x25), (4, 0x08), (2, 0x30), (0, 0x15), (0x32, 0x21)]
    {
        machine.set(register, value);
    }
    machine.pass(Duration::from_secs(100));
    assert_eq!(machine.time(), [0x21, 0x31, 0x12, 0x25, 0x08, 0x30, 0x15], "it stands still");
    machine.set(0xb, 0x02);
    machine.pass(Duration::from_secs(5));
    assert_eq!(machine.time(), [0x21, 0x31, 0x12, 0x25, 0x08, 0x30, 0x20]);
}

#[test]
fn a_register_written_while_the_clock_runs_counts_at_once() {
    let machine = Machine::new(LEAP_DAY);
    machine.set(4, 0x01);
    machine.pass(Duration::from_secs(1));
    assert_eq!(machine.time(), [0x20, 0x24, 0x02, 0x29, 0x01, 0x59, 0x59]);
}

#[test]
fn a_date_that_does_not_exist_changes_nothing() {
    let machine = Machine::new(LEAP_DAY);
    machine.set(8, 0x13);
    machine.set(0, 0xff);
    assert_eq!(machine.time(), [0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x58]);
}

#[test]
fn an_update_is_announced_for_244_microseconds() {
    let machine = Machine::new(LEAP_DAY);
    assert_eq!(machine.get(0xa), 0x26);
    machine.pass(Duration::from_micros(999_755));
    assert_eq!(machine.get(0xa), 0x26);
    machine.pass(Duration::from_micros(1));
    assert_eq!(machine.get(0xa), 0xa6);
    machine.pass(Duration::from_micros(244));
    assert_eq!(machine.get(0xa), 0x26);
}

#[test]
fn status_says_valid_and_cannot_be_written() {
    let machine = Machine::new(LEAP_DAY);
    machine.set(0xc, 0xff);
    machine.set(0xd, 0);
    assert_eq!((machine.get(0xc), machine.get(0xd)), (0, 0x80));
}

#[test]
fn a_guest_that_polls_sees_each_second_once() {
    let machine = Machine::new(LEAP_DAY);
    machine.pass(Duration::from_millis(999));
    assert_eq!(machine.get(0xc), 0);
    machine.pass(Duration::from_millis(1));
    assert_eq!((machine.get(0xc), machine.get(0xc)), (0x10, 0));
}

#[test]
fn each_second_interrupts_a_guest_that_asked_for_it() {
    let machine = Machine::new(LEAP_DAY);
    machine.set(0xb, 0x12);
    machine.tick();
    assert_eq!(machine.wiring.raised(8), Some(0), "no second has passed");
    for count in 1..4 {
        machine.pass(Duration::from_secs(1));
        machine.tick();
        assert_eq!(machine.wiring.raised(8), Some(count));
        assert_eq!(machine.get(0xc) & 0x90, 0x90);
    }
}

#[test]
fn the_alarm_interrupts_when_its_time_has_come() {
    let machine = Machine::new(LEAP_DAY);
    for (register, value) in [(1, 0x01), (3, 0x00), (5, 0x00)] {
        machine.set(register, value);
    }
    machine.set(0xb, 0x22);
    let mut raised = Vec::new();
    for _ in 0..5 {
        machine.pass(Duration::from_secs(1));
        machine.tick();
        raised.push(machine.wiring.raised(8).unwrap());
        machine.get(0xc);
    }
    assert_eq!(raised, [0, 0, 1, 1, 1], "00:00:01 is three seconds away");
    machine.set(1, 0xff);
    machine.set(3, 0xc0);
    machine.set(5, 0xff);
    machine.pass(Duration::from_secs(1));
    machine.tick();
    assert_eq!(machine.get(0xc), 0xb0, "an alarm at any time");
}

#[test]
fn the_timer_runs_only_while_the_guest_wants_interrupts() {
    let mut machine = Machine::new(0);
    machine.pass(Duration::from_nanos(999_999_999));
    let mut events = EventManager::<Subscriber>::new().unwrap();
    events.add_subscriber(machine.wiring.subscribers.remove(0));
    machine.set(0xb, 0x12);
    assert_eq!(events.run_with_timeout(10_000).unwrap(), 1, "the timer expires");
    machine.set(0xb, 0x02);
    assert_eq!(events.run_with_timeout(10).unwrap(), 0, "the timer is off");
}

#[test]
fn a_pending_interrupt_is_raised_again_after_a_restore() {
    let mut machine = Machine::new(LEAP_DAY);
    machine.set(0xb, 0x12);
    machine.pass(Duration::from_secs(1));
    machine.tick();
    machine.wiring.save_and_restore().unwrap();
    assert_eq!(machine.wiring.raised(8), Some(2));
    assert_eq!(machine.get(0xc), 0x90);
}

#[test]
fn bit_7_of_the_index_is_not_part_of_it() {
    let machine = Machine::new(LEAP_DAY);
    assert_eq!(machine.get(0x80), 0x58);
}

#[test]
fn ram_is_ram() {
    let machine = Machine::new(LEAP_DAY);
    machine.set(0x40, 0x5a);
    machine.set(0x7f, 0xa5);
    assert_eq!((machine.get(0x40), machine.get(0x7f)), (0x5a, 0xa5));
}

#[test]
fn memory_sizes_are_where_firmware_leaves_them() {
    let machine = Machine::new(LEAP_DAY);
    let word = |low, high| u16::from_le_bytes([machine.get(low), machine.get(high)]);
    assert_eq!(word(0x15, 0x16), 640);
    assert_eq!(word(0x17, 0x18), 0xffff);
    assert_eq!(word(0x30, 0x31), 0xffff);
    assert_eq!(word(0x34, 0x35), (3072 - 16) * 16);
    assert_eq!((word(0x5b, 0x5c), machine.get(0x5d)), (0x4000, 1), "5 GiB are 0x14000 * 64 KiB");
}

#[test]
fn memory_sizes_that_do_not_fit_are_the_largest_or_none() {
    assert_eq!(memory_registers(0, 0).map(|(_, value)| value), [0; 11]);
    let most = memory_registers(u64::MAX, u64::MAX).map(|(_, value)| value);
    assert_eq!(most, [128, 2, 255, 255, 255, 255, 255, 255, 255, 255, 255]);
}

#[test]
fn a_restored_guest_sees_the_time_of_its_new_host() {
    let machine = Machine::new(LEAP_DAY);
    machine.set(4, 0x22); // an hour behind
    let saved = machine.wiring.components[0].lock().unwrap().save_section().unwrap();
    machine.pass(Duration::from_secs(60));
    let again = machine.wiring.components[0].lock().unwrap().save_section().unwrap();
    assert_eq!(saved, again, "the section does not depend on the time");

    let later = Machine::new(LEAP_DAY + 3600);
    later.wiring.components[0].lock().unwrap().restore_section(saved).unwrap();
    assert_eq!(later.time(), [0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x58]);
}

#[test]
fn impossible_states_are_refused() {
    let machine = Machine::new(LEAP_DAY);
    let mut component = machine.wiring.components[0].lock().unwrap();
    let good = component.save_section().unwrap();
    for (field, value) in [
        ("ram", serde_json::json!([0, 1, 2])),
        ("index", serde_json::json!(0x80)),
        ("offset", serde_json::json!(i64::MAX)),
        ("offset", serde_json::json!(i64::MIN)),
        ("ram", serde_json::json!(vec![0xff; 128])),
    ] {
        let mut bad = good.clone();
        bad.state[field] = value;
        assert!(component.restore_section(bad).is_err(), "{field}");
    }
    component.restore_section(good).unwrap();
}
