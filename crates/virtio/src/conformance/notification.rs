//! Who is told, and who is not. The chains are malformed, so that they come back from any device.

use super::{Driver, Transport, queue::BUFFERS};
use crate::feature;

/// One interrupt for each turn with used chains, none when the driver's flag says so; the device
/// asks for notification whenever it rests.
pub fn is_notified_by_flag<T: Transport>(make: &impl Fn() -> T) {
    let mut driver = Driver::new(make());
    driver.start(0);
    for index in 0..driver.queues.len() {
        let raised = driver.raised();
        driver.kick_and_run(index);
        assert_eq!(driver.raised(), raised, "queue {index} interrupts for nothing");
        return_one(&mut driver, index);
        assert_eq!(driver.raised(), raised + 1, "queue {index} does not interrupt once");
        assert_eq!(driver.acknowledge(), 1, "the interrupt is for used buffers");
        assert_eq!(driver.acknowledge(), 0, "an acknowledged interrupt is gone");
        assert!(driver.queues[index].wants_kick(), "queue {index} rests and wants no notification");

        driver.queues[index].suppress(true);
        return_one(&mut driver, index);
        assert_eq!(driver.raised(), raised + 1, "queue {index} interrupts against the flag");
        driver.queues[index].suppress(false);
        return_one(&mut driver, index);
        assert_eq!(driver.raised(), raised + 2, "queue {index} stays silent after the flag");
    }
    assert_eq!(driver.acknowledge(), 1, "an interrupt stays pending until it is acknowledged");
    return_one(&mut driver, 0);
    driver.reset();
    assert_eq!(driver.acknowledge(), 0, "nothing is pending after a reset");
}

/// With `EVENT_IDX`: an interrupt when the chain asked for comes back and not before, and
/// notification of the next chain whenever the device rests.
pub fn is_notified_by_event_index<T: Transport>(make: &impl Fn() -> T) {
    let mut driver = Driver::new(make());
    driver.start(feature::EVENT_IDX);
    for index in 0..driver.queues.len() {
        let raised = driver.raised();
        driver.queues[index].set_used_event(2);
        return_one(&mut driver, index);
        return_one(&mut driver, index);
        assert_eq!(driver.raised(), raised, "queue {index} interrupts too early");
        return_one(&mut driver, index);
        assert_eq!(driver.raised(), raised + 1, "queue {index} misses the event index");
        return_one(&mut driver, index);
        assert_eq!(driver.raised(), raised + 1, "queue {index} interrupts unasked");

        // Several in one turn, past the one that was asked for, and around the end of the ring.
        for _ in 0..3 {
            let many = driver.queues[index].size.min(4);
            let first = driver.queues[index].offered;
            let raised = driver.raised();
            driver.queues[index].set_used_event(first);
            for _ in 0..many {
                driver.queues[index].offer(&[(BUFFERS, 0, false)]);
            }
            driver.kick_and_run(index);
            let used = driver.queues[index].used().len();
            assert_eq!(Ok(many), u32::try_from(used), "all come back");
            assert_eq!(driver.raised(), raised + 1, "one interrupt for {many} chains");
        }
    }
}

pub(super) fn return_one(driver: &mut Driver, index: usize) {
    let head = driver.queues[index].offer(&[(BUFFERS, 0, false)]);
    assert!(driver.queues[index].wants_kick(), "queue {index} rests and wants no notification");
    driver.kick_and_run(index);
    let used = driver.queues[index].used();
    assert_eq!(used, [(head.into(), 0)], "queue {index} does not give an empty chain back");
}
