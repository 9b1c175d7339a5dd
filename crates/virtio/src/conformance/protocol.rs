//! Registers and states.

use std::sync::{Arc, Mutex};

use device::{FakeWiring, Wiring};

use super::{Driver, Register, Transport, queue::BUFFERS, register::Place};
use crate::{Device, feature, status};

const ACKNOWLEDGE: u8 = status::ACKNOWLEDGE;
const DRIVER: u8 = ACKNOWLEDGE | status::DRIVER;
const AGREED: u8 = DRIVER | status::FEATURES_OK;
const RUNNING: u8 = AGREED | status::DRIVER_OK;

/// Identity, features and queue sizes are what the standard allows; there is no shared memory.
pub fn announces_itself<T: Transport>(make: &impl Fn() -> T) {
    let driver = Driver::new(make());
    let id = T::Device::ID;
    assert_eq!(driver.id(), id, "the device has its own type");
    assert!(id != 0, "type 0 is no device");
    assert!(driver.offered() & feature::VERSION_1 != 0, "every device has version 1");
    assert!(!driver.queues.is_empty(), "every device has a queue");
    assert!(driver.queues.iter().all(|queue| queue.max.is_power_of_two()), "sizes are powers of 2");
    driver.set(Register::DeviceFeaturesSelect, 2);
    assert_eq!(driver.get(Register::DeviceFeatures), 0, "there are 64 features");
    if let Place::Mmio { .. } = driver.place {
        assert_eq!(driver.read(0x000), 0x7472_6976, "the magic value is \"virt\"");
        assert_eq!(driver.read(0x004), 2, "the version of the transport is 2");
        for shm in [0, 1, u32::MAX] {
            driver.write(0x0ac, shm);
            let memory = (driver.read(0x0b0), driver.read(0x0b4));
            assert_eq!(memory, (u32::MAX, u32::MAX), "memory {shm}");
        }
    }
}

/// Steps are taken in order, may be repeated, and are not taken when skipped or when the features
/// are not acceptable; reset leads back from everywhere.
pub fn follows_the_status<T: Transport>(make: &impl Fn() -> T) {
    let mut driver = Driver::new(make());
    for skipped in [2, 4, 8, 2 | 4, ACKNOWLEDGE | 4, ACKNOWLEDGE | 8] {
        let taken = driver.set_status(skipped);
        assert_eq!(taken & !ACKNOWLEDGE, 0, "status {skipped:#x} from reset takes {taken:#x}");
        assert_eq!(driver.set_status(0), 0, "a reset leads back");
    }
    assert!(!driver.enable(0), "a queue cannot be set up before features are agreed on");
    refuses_features(&mut driver);
    assert!(driver.negotiate(driver.offered()), "the device takes what it offers itself");
    assert!(driver.negotiate(0), "the device takes VERSION_1 alone");
    assert_eq!(driver.set_status(AGREED), AGREED, "a step can be repeated");
    assert_eq!(driver.set_status(DRIVER), AGREED, "no bit can be cleared");
    driver.accept(0);
    assert_eq!(driver.set_status(RUNNING), RUNNING, "features are settled");
    assert_eq!(driver.set_status(RUNNING | status::FAILED), RUNNING | status::FAILED);
    driver.kick_and_run(0);
    for end in [0, ACKNOWLEDGE, DRIVER, AGREED, RUNNING, RUNNING | status::FAILED] {
        driver.negotiate(0);
        driver.set_status(end);
        driver.set(Register::Status, 0);
        assert_eq!(driver.status(), 0, "a reset leads back from {end:#x}");
        assert_eq!(driver.acknowledge(), 0, "nothing is pending after a reset");
    }
    driver.start(0);
}

fn refuses_features(driver: &mut Driver) {
    let unknown = (0..64).map(|bit| 1 << bit).find(|bit| driver.offered() & bit == 0);
    assert!(!driver.negotiate(unknown.unwrap_or(0)), "the device takes features it does not offer");
    driver.reset();
    driver.set_status(DRIVER);
    driver.accept(driver.offered() & !feature::VERSION_1);
    assert_eq!(driver.set_status(AGREED), DRIVER, "the device works without VERSION_1");
    assert_eq!(driver.set_status(RUNNING), DRIVER, "the device works without agreed features");
}

/// The configuration space keeps its length whatever is written to it, and is a new one after a
/// reset.
pub fn keeps_its_config<T: Transport>(make: &impl Fn() -> T) {
    let (mut driver, handle) = Driver::with_handle(make());
    let fresh = handle.with(|device| device.config().to_vec());
    let check = |driver: &Driver, what: &str| {
        let (now, generation) =
            (handle.with(|device| device.config().to_vec()), driver.generation());
        assert_eq!(now.len(), fresh.len(), "the configuration changes its length {what}");
        let mut read = vec![0; now.len()];
        for (at, byte) in (0..).zip(&mut read) {
            driver.read_config(at, std::slice::from_mut(byte));
        }
        assert_eq!(read, now, "the driver reads another configuration {what}");
        assert_eq!(driver.generation(), generation, "reading changes the configuration {what}");
    };
    check(&driver, "at first");
    driver.start(driver.offered());
    for value in [0, 0xff, 0x5a] {
        for (at, width) in (0..).take(fresh.len() + 8).flat_map(|at| [1, 2, 4, 8].map(|w| (at, w)))
        {
            driver.write_config(at, &vec![value; width]);
        }
        check(&driver, "when it is written");
    }
    driver.run();
    driver.reset();
    check(&driver, "in a reset");
    let now = handle.with(|device| device.config().to_vec());
    assert_eq!(now, fresh, "a reset brings the configuration back");
}

/// Sizes and places that no queue can have leave the queue out of use and the device in need of a
/// reset; after that it works.
pub fn refuses_impossible_queues<T: Transport>(make: &impl Fn() -> T) {
    let mut driver = Driver::new(make());
    for index in 0..driver.queues.len() {
        let max = u32::from(driver.queues[index].max);
        let bits = 8 * driver.place.register(Register::QueueSize).1;
        let sizes = [0, 3, max * 2, 0x1_0000 | max, u32::MAX].into_iter();
        for size in sizes.filter(|size| bits == 32 || *size < 0x1_0000) {
            assert!(driver.negotiate(0));
            driver.queues[index].size = size;
            assert!(!driver.enable(index), "queue {index} of {max} takes size {size}");
            assert!(driver.is_broken(), "queue {index} refuses size {size} without a word");
        }
        for place in 0..3 {
            for addr in [0x1_0000_0000, 0x10_0000 - 4, u64::MAX, u64::MAX - 15, BUFFERS + 1] {
                assert!(driver.negotiate(0));
                driver.queues[index].places[place] = addr;
                assert!(!driver.enable(index), "queue {index} takes area {place} at {addr:#x}");
                assert!(driver.is_broken(), "queue {index} refuses {addr:#x} without a word");
            }
        }
    }
    driver.set(Register::QueueSelect, u32::MAX);
    let (max, enabled) = (driver.get(Register::QueueMax), driver.get(Register::QueueEnable));
    assert_eq!((max, enabled), (0, 0), "no such queue");
    driver.start(0);
}

/// The device is saved and restored in each state and with requests under way, and neither it nor
/// the driver notices.
pub fn comes_back_from_a_snapshot<T: Transport>(make: &impl Fn() -> T) {
    for state in [0, ACKNOWLEDGE, DRIVER, DRIVER | status::FAILED] {
        let driver = Driver::new(make());
        driver.set_status(state & DRIVER);
        driver.set_status(state);
        assert_eq!(driver.transplant(make()).status(), state, "a restored device is where it was");
    }
    let mut driver = Driver::new(make());
    driver.start(driver.offered());
    for index in 0..driver.queues.len() {
        // Of length 0, so that it comes back whatever the device is.
        driver.queues[index].set_used_event(0);
        let head = driver.queues[index].offer(&[(BUFFERS, 0, false)]);
        driver.kick(index);
        driver = driver.transplant(make());
        driver.run();
        let used = driver.queues[index].used();
        assert_eq!(used, [(head.into(), 0)], "what was offered before a restore is served after");
        assert!(driver.raised() > 0, "a restored queue interrupts");
        driver = driver.transplant(make());
        assert_eq!(driver.acknowledge() & 1, 1, "what is pending stays pending");
        assert!(driver.raised() > 0, "a pending interrupt is raised again");
    }
    driver.queues[0].offer_head(u16::MAX);
    driver.kick_and_run(0);
    assert!(driver.transplant(make()).is_broken(), "a broken device is restored as one");
}

/// Any access at any width is survived, what is saved is restored, and garbage is refused: see
/// [`device::conformance::bus_device`].
pub fn takes_every_access<T: Transport>(make: &impl Fn() -> T) {
    let mut driver = Driver::new(make());
    match &driver.place {
        Place::Mmio { .. } => {
            let mut wiring = FakeWiring::new().expect("the host gives a mebibyte");
            wiring.attach(make()).expect("the device can be attached");
            device::conformance::bus_device(&mut wiring);
        }
        Place::Pci(function) => super::bar::takes_every_access(&driver.machine, function),
    }

    // The device's own section, which lies inside that of its transport.
    let mut wiring = FakeWiring::new().expect("the host gives a mebibyte");
    wiring.persist(Arc::new(Mutex::new(make().into_device())));
    device::conformance::comes_back_from_a_snapshot(&wiring);
    device::conformance::refuses_garbage(&wiring);

    driver = Driver::new(make());
    driver.start(driver.offered());
    let (at, own) = driver.place.register(Register::Status);
    for width in [1, 2, 3, 4, 8].into_iter().filter(|width| *width != own) {
        driver.buses().mmio.write(at, &vec![0; width]);
        assert_eq!(driver.status(), RUNNING, "{width} bytes reset the device");
    }
    for at in [at - 2, at + 2] {
        driver.buses().mmio.write(at, &[0; 4]);
        assert_eq!(driver.status(), RUNNING, "4 bytes that are not aligned reset the device");
    }
}
