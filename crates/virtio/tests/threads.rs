//! A vCPU resets and sets up the device while the I/O thread serves it.

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
    conformance::{BUFFERS, Driver},
    mmio,
};

/// How often the device is reset.
const RESETS: u32 = 2000;

#[test]
fn a_device_can_be_reset_at_any_moment() {
    let (mut driver, handle) = Driver::with_handle(mmio(Echo::new(Fault::None)));
    driver.start(0);
    let [descriptors, available, used] = driver.queues[0].places;
    let places = [(0x080, descriptors), (0x090, available), (0x0a0, used)];
    let ended = Arc::new(AtomicBool::new(false));
    let vcpu = {
        let (buses, base, ended) = (driver.buses().clone(), driver.base(), Arc::clone(&ended));
        thread::spawn(move || {
            let write = |offset, value: u32| {
                buses.mmio.write(base + offset, &value.to_le_bytes());
            };
            for _ in 0..RESETS {
                // Reset, agree on VERSION_1 alone, one queue of 8, start.
                let negotiate = [(0x070, 0), (0x070, 3), (0x024, 1), (0x020, 1), (0x070, 11)];
                negotiate.into_iter().for_each(|(offset, value)| write(offset, value));
                write(0x038, 8);
                places.into_iter().for_each(|(at, addr)| write(at, u32::try_from(addr).unwrap()));
                [(0x044, 1), (0x070, 15), (0x050, 0)].into_iter().for_each(|(at, v)| write(at, v));
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
