//! A vCPU resets and sets up the device while the I/O thread serves it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "its faults are for the other tests")]
mod echo;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use echo::{Echo, Fault};
use purlin_virtio::{
    Handle,
    conformance::{BUFFERS, Driver, Half, Register},
    mmio, pci,
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
