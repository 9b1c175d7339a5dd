//! The interrupts of a device on PCI.

use super::{Driver, notification::return_one, probe, register::Register};
use crate::{Device, PciTransport};

const NO_VECTOR: u32 = 0xffff;
const CONFIG_VECTOR: u64 = 0x10;
const QUEUE_VECTOR: u64 = 0x1a;
const NUM_QUEUES: u64 = 0x12;
const NOTIFY_OFF: u64 = 0x1e;
/// MSI-X control: on, and all masked.
const ON: u32 = 0x8000;
const MASK: u32 = 0x4000;

/// What is raised behind a mask is pending and comes once, when the mask goes; what is raised while
/// MSI-X is off is lost, but for the ISR status.
pub fn holds_masked_vectors<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    let mut driver = Driver::new(make());
    driver.start(0);
    let function = driver.function().clone();
    let buses = driver.buses().clone();
    for index in 0..driver.queues.len() {
        let vector = function.vector_of(driver.queues[index].index);
        let mask = |on| {
            let control = function.table + 16 * u64::from(vector) + 12;
            probe::set(&buses, control, 4, on);
        };
        let all = |bits| function.set(&buses, function.msix + 2, 2, bits);
        let pending = || {
            let dword = function.pba + u64::from(vector) / 32 * 4;
            probe::get(&buses, dword, 4) >> (vector % 32) & 1
        };
        let raised = driver.raised_for(index);
        mask(1);
        return_one(&mut driver, index);
        return_one(&mut driver, index);
        assert_eq!((driver.raised_for(index), pending()), (raised, 1), "vector {vector} is masked");
        mask(0);
        assert_eq!((driver.raised_for(index), pending()), (raised + 1, 0), "vector {vector} comes");

        all(ON | MASK);
        return_one(&mut driver, index);
        assert_eq!((driver.raised_for(index), pending()), (raised + 1, 1), "all are masked");
        all(ON);
        assert_eq!((driver.raised_for(index), pending()), (raised + 2, 0), "vector {vector} comes");

        all(0);
        driver.acknowledge();
        return_one(&mut driver, index);
        assert_eq!(driver.acknowledge(), 1, "the ISR status is set without MSI-X too");
        all(ON);
        assert_eq!((driver.raised_for(index), pending()), (raised + 2, 0), "MSI-X was off");
    }
}

/// A vector that is there can be chosen, for the configuration and each queue; any other becomes none,
/// and none interrupts nobody. A reset chooses none.
pub fn chooses_vectors<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    let mut driver = Driver::new(make());
    driver.start(driver.offered());
    let function = driver.function().clone();
    let buses = driver.buses().clone();
    let get = |field| probe::get(&buses, function.common + field, 2);
    let set = |field, value| {
        probe::set(&buses, function.common + field, 2, value);
        get(field)
    };
    assert_eq!(usize::try_from(get(NUM_QUEUES)), Ok(driver.queues.len()), "all queues are known");
    for index in 0..driver.queues.len() {
        let number = driver.queues[index].index;
        driver.set(Register::QueueSelect, number);
        assert_eq!(get(NOTIFY_OFF), number, "each queue has a doorbell of its own");
        for field in [CONFIG_VECTOR, QUEUE_VECTOR] {
            for vector in [0, function.vectors - 1] {
                assert_eq!(set(field, vector), vector, "vector {vector} is there");
            }
            for vector in [function.vectors, 0x7fff, 0xfffe, NO_VECTOR] {
                assert_eq!(set(field, vector), NO_VECTOR, "vector {vector} is not there");
            }
        }
        let raised = driver.raised();
        driver.acknowledge();
        // Until the event index, or at once.
        driver.queues[index].set_used_event(0);
        return_one(&mut driver, index);
        assert_eq!((driver.raised(), driver.acknowledge()), (raised, 1), "it has no vector");
        driver.set(Register::QueueSelect, number);
        set(QUEUE_VECTOR, 0);
        driver.reset_queue(index);
        assert_eq!(get(QUEUE_VECTOR), NO_VECTOR, "a queue reset leaves a vector");
    }
    driver.start(0);
    driver.reset();
    assert_eq!((get(CONFIG_VECTOR), get(QUEUE_VECTOR)), (NO_VECTOR, NO_VECTOR), "after a reset");
    driver.set(Register::QueueSelect, 0xffff);
    assert_eq!(set(QUEUE_VECTOR, 0), NO_VECTOR, "a queue that is not there takes a vector");
}
