//! Back ends that answer, but late. How many messages they have answered before they were given up is
//! counted: a clock would also measure this machine.
#![expect(clippy::unwrap_used, reason = "test code")]

mod backend;

use std::{sync::atomic::Ordering::SeqCst, time::Instant};

use backend::{BACKEND_REQ, Backend, CONFIG, Options, Scratch, count, wait_until};
use purlin_vhost_user::{Settings, VhostUser};
use virtio::{Handle, conformance::Driver};

type Block = VhostUser<2>;

/// What a slow back end takes for each message, milliseconds.
const SLOW: u64 = 100;
/// How many messages of that kind fit into three seconds, with room for one that was under way.
const THREE_SECONDS: usize = 33;
/// And into the second that a back end has which is taken again.
const ONE_SECOND: usize = 13;

fn driver(scratch: &Scratch, queues: u16) -> (Driver, Handle<Block>) {
    let settings = Settings::block().queues(queues).unwrap();
    let block = Block::connect(scratch.socket("a"), settings).unwrap();
    Driver::with_handle(virtio::mmio(block))
}

fn backend(scratch: &Scratch) -> (Backend, Options) {
    let options = Options { queues: 64, ..Options::default() };
    (Backend::new(&scratch.socket("a"), options.clone()), options)
}

#[test]
fn the_start_of_all_queues_waits_three_seconds_in_all() {
    let scratch = Scratch::new();
    let (_backend, options) = backend(&scratch);
    let (mut driver, handle) = driver(&scratch, 16);
    options.slow.store(SLOW, SeqCst);
    driver.start(driver.offered());
    wait_until("it is given up", || {
        driver.run();
        !handle.with(|block| block.is_connected())
    });
    // It would be 98.
    assert!(count(&options.answered) <= THREE_SECONDS, "{}", count(&options.answered));
    assert!(!driver.is_broken(), "the driver is told to reset the device");
}

#[test]
fn the_stop_of_all_queues_waits_three_seconds_in_all() {
    let scratch = Scratch::new();
    let (_backend, options) = backend(&scratch);
    let (mut driver, handle) = driver(&scratch, 64);
    driver.start(driver.offered());
    let before = count(&options.answered);
    options.slow.store(SLOW, SeqCst);
    driver.reset();
    assert!(!handle.with(|block| block.is_connected()));
    let answered = count(&options.answered) - before;
    // It would be 64.
    assert!(answered <= THREE_SECONDS, "{answered}");
}

#[test]
fn one_that_comes_back_as_slow_as_it_was_has_less_time() {
    let scratch = Scratch::new();
    let (_backend, options) = backend(&scratch);
    let (mut driver, _) = driver(&scratch, 16);
    options.slow.store(SLOW, SeqCst);
    driver.start(driver.offered());
    wait_until("it has been lost twice", || {
        driver.run();
        count(&options.connections) == 3
    });
    let answered = count(&options.answered);
    assert!(answered <= THREE_SECONDS + ONE_SECOND, "{answered}");
}

#[test]
fn one_that_answers_at_once_is_asked_for_ever() {
    let scratch = Scratch::new();
    let (_backend, options) = backend(&scratch);
    let (mut driver, handle) = driver(&scratch, 16);
    for _ in 0..50 {
        driver.start(driver.offered());
        driver.reset();
    }
    assert!(handle.with(|block| block.is_connected()));
    assert_eq!(count(&options.connections), 1);
}

#[test]
fn a_configuration_that_changes_all_the_time_is_read_now_and_then() {
    let scratch = Scratch::new();
    let options = Options { protocol: CONFIG | BACKEND_REQ, ..Options::default() };
    let _backend = Backend::new(&scratch.socket("a"), options.clone());
    let (mut driver, handle) = driver(&scratch, 1);
    options.flickers.store(true, SeqCst);
    driver.start(driver.offered());
    driver.write_config(32, &[0]);
    let begun = Instant::now();
    let before = count(&options.asked);
    wait_until("it is read again", || {
        driver.run();
        count(&options.asked) >= before + 5
    });
    assert!(begun.elapsed().as_millis() > 300, "{:?}", begun.elapsed());
    assert!(handle.with(|block| block.is_connected()));
}
