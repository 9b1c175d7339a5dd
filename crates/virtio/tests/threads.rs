//! A vCPU resets and sets up the device while the I/O thread serves it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "its faults are for the other tests")]
mod echo;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
    time::{Duration, Instant},
};

use echo::{Echo, Fault};
use purlin_virtio::{
    Handle,
    conformance::{BUFFERS, Driver, Half, Register},
    feature, mmio, pci,
};

/// How often the device is reset.
const RESETS: u32 = 2000;

#[test]
fn a_device_on_mmio_can_be_reset_at_any_moment() {
    is_reset_at_any_moment(Driver::with_handle(mmio(Echo::new(Fault::None))));
}

#[test]
fn a_device_on_pci_can_be_reset_at_any_moment() {
    is_reset_at_any_moment(Driver::with_handle(pci(Echo::new(Fault::None))));
}

/// What a driver writes to start over with one queue of 8.
fn start(places: [u64; 3]) -> Vec<(Register, u32)> {
    let [descriptors, available, used] = places.map(|addr| u32::try_from(addr).unwrap());
    vec![
        // Reset, agree on VERSION_1 alone.
        (Register::Status, 0),
        (Register::Status, 3),
        (Register::DriverFeaturesSelect, 1),
        (Register::DriverFeatures, 1),
        (Register::Status, 11),
        (Register::QueueSelect, 0),
        (Register::QueueSize, 8),
        (Register::Descriptors(Half::Low), descriptors),
        (Register::Driver(Half::Low), available),
        (Register::Device(Half::Low), used),
        (Register::QueueEnable, 1),
        (Register::Status, 15),
    ]
}

fn is_reset_at_any_moment((mut driver, handle): (Driver, Handle<Echo>)) {
    driver.start(0);
    let writes = start(driver.queues[0].places).into_iter();
    let mut writes: Vec<(u64, usize, u32)> = writes
        .map(|(register, value)| (driver.register(register), value))
        .map(|((at, width), value)| (at, width, value))
        .collect();
    writes.push((driver.doorbell(0), 4, 0));
    let ended = Arc::new(AtomicBool::new(false));
    let vcpu = {
        let (buses, ended) = (driver.buses().clone(), Arc::clone(&ended));
        thread::spawn(move || {
            for (at, width, value) in (0..RESETS).flat_map(|_| &writes) {
                buses.mmio.write(*at, &value.to_le_bytes()[..*width]);
            }
            ended.store(true, Ordering::SeqCst);
        })
    };
    // A full ring, which each start finds anew.
    for _ in 0..8 {
        driver.queues[0].offer(&[(BUFFERS, 16, true)]);
    }
    while !ended.load(Ordering::SeqCst) {
        driver.turn();
    }
    vcpu.join().unwrap();
    driver.run();

    assert!(handle.with(|echo| echo.count) > 0, "nothing was served in between");
    driver.start(driver.offered());
    driver.queues[0].offer(&[(BUFFERS, 16, true)]);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 0)]);
}

/// How many chains go back and forth.
const CHAINS: u32 = 5_000;
/// What is not there by then was forgotten.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn no_notification_is_lost_to_a_driver_that_polls() {
    for features in [0, feature::EVENT_IDX] {
        goes_back_and_forth(features, false);
    }
}

#[test]
fn no_interrupt_is_lost_to_a_driver_that_waits_for_it() {
    for features in [0, feature::EVENT_IDX] {
        goes_back_and_forth(features, true);
    }
}

/// A driver on a thread of its own notifies only when the device asks for it, and looks for what came
/// back at any time, or only when the device interrupts.
fn goes_back_and_forth(features: u64, waits: bool) {
    let (mut driver, _) = Driver::with_handle(mmio(Echo::new(Fault::None)));
    driver.start(features);
    let (buses, base) = (driver.buses().clone(), driver.base());
    let mut queue = driver.queues.remove(0);
    let interrupted = move || {
        let mut bits = [0; 4];
        buses.mmio.read(base + 0x060, &mut bits);
        buses.mmio.write(base + 0x064, &bits);
        fence(Ordering::SeqCst);
        bits != [0; 4]
    };
    let (buses, ended) = (driver.buses().clone(), Arc::new(AtomicBool::new(false)));
    let end = End(Arc::clone(&ended));
    let vcpu = thread::spawn(move || {
        let _end = end;
        let deadline = Instant::now() + LIMIT;
        for chain in 0..CHAINS {
            queue.offer(&[(BUFFERS, 16, true)]);
            fence(Ordering::SeqCst);
            if queue.wants_kick() {
                buses.mmio.write(base + 0x050, &0_u32.to_le_bytes());
            }
            queue.set_used_event(queue.taken);
            fence(Ordering::SeqCst);
            let mut used = queue.used();
            while used.is_empty() {
                assert!(Instant::now() < deadline, "chain {chain} is forgotten");
                if !waits || interrupted() {
                    used = queue.used();
                }
            }
        }
    });
    while !ended.load(Ordering::SeqCst) {
        driver.turn();
    }
    vcpu.join().unwrap();
}

/// Says that its thread has ended, however it has.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
