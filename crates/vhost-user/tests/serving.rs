//! A block device behind a driver: what it reads, and what it has to bear.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod backend;

use std::sync::atomic::Ordering::SeqCst;

use backend::{
    BACKEND_REQ, Backend, CONFIG, EVENT_IDX, INDIRECT, INFLIGHT, Lie, MQ, Options, PROTOCOL,
    Scratch,
};
use backend::{SECTORS, count, wait_until};
use device::Persist;
use memory::{Bytes, GuestAddress};
use purlin_vhost_user::{Settings, VhostUser};
use virtio::{
    Handle,
    conformance::{BUFFERS, Driver},
    feature,
};

type Block = VhostUser<2>;

const GET_VRING_BASE: u32 = 11;

fn driver(scratch: &Scratch, settings: Settings) -> (Driver, Handle<Block>) {
    let block = Block::connect(scratch.socket("a"), settings).unwrap();
    Driver::with_handle(virtio::mmio(block))
}

/// Where a request of number `slot` has its buffers.
fn place(slot: u64) -> u64 {
    BUFFERS + 0x1000 * slot
}

/// Asks for a sector.
fn ask(driver: &mut Driver, queue: usize, (slot, sector): (u64, u64)) -> u16 {
    let at = place(slot);
    let mut header = [0; 16];
    header[8..].copy_from_slice(&sector.to_le_bytes());
    driver.memory().write_slice(&header, GuestAddress(at)).unwrap();
    driver.memory().write_slice(&[0xee; 513], GuestAddress(at + 0x100)).unwrap();
    let chain = [(at, 16, false), (at + 0x100, 512, true), (at + 0x300, 1, true)];
    let head = driver.queues[queue].offer(&chain);
    driver.kick(queue);
    head
}

/// Waits for so many requests: the heads that came back, each with the right sector.
fn answers(driver: &mut Driver, queue: usize, count: usize) -> Vec<u32> {
    let mut used = Vec::new();
    wait_until("all requests are answered", || {
        driver.run();
        used.extend(driver.queues[queue].used());
        used.len() >= count
    });
    assert_eq!(used.len(), count, "as many come back as were asked");
    used.into_iter().map(|(head, _)| head).collect()
}

fn holds(driver: &Driver, (slot, sector): (u64, u64)) {
    let mut data = [0; 513];
    driver.memory().read_slice(&mut data, GuestAddress(place(slot) + 0x100)).unwrap();
    let expected = [[u8::try_from(sector).unwrap(); 512].as_slice(), &[0]].concat();
    assert!(data == expected[..], "slot {slot} holds sector {sector}");
}

fn reads(driver: &mut Driver, queue: usize) {
    for sector in 0..40 {
        let head = ask(driver, queue, (0, sector));
        assert_eq!(answers(driver, queue, 1), [u32::from(head)]);
        holds(driver, (0, sector));
    }
}

/// Waits until the device has lost its back end.
fn loses(driver: &mut Driver, handle: &Handle<Block>) {
    wait_until("the back end is missed", || {
        driver.run();
        !handle.with(|block| block.is_connected())
    });
}

#[test]
fn a_disk_is_read_through_another_process() {
    let scratch = Scratch::new();
    let _backend = Backend::new(&scratch.socket("a"), Options::default());
    let (mut driver, _) = driver(&scratch, Settings::block());
    for features in [0, driver.offered()] {
        driver.start(features);
        reads(&mut driver, 0);
        assert!(driver.raised() > 0, "the driver is interrupted");
    }
}

#[test]
fn a_back_end_without_extensions_does_as_well() {
    let scratch = Scratch::new();
    let options = Options { protocol: CONFIG, ..Options::default() };
    let _backend = Backend::new(&scratch.socket("a"), options);
    let (mut driver, _) = driver(&scratch, Settings::block());
    driver.start(driver.offered());
    reads(&mut driver, 0);
}

#[test]
fn every_queue_is_served() {
    let scratch = Scratch::new();
    let _backend = Backend::new(&scratch.socket("a"), Options::default());
    let (mut driver, _) = driver(&scratch, Settings::block().queues(4).unwrap());
    let mut queues = [0; 2];
    driver.read_config(34, &mut queues);
    assert_eq!(queues, [4, 0], "the driver is told how many");
    driver.start(driver.offered());
    (0..4).for_each(|queue| reads(&mut driver, queue));
}

#[test]
fn a_queue_and_a_device_can_be_reset_and_used_again() {
    let scratch = Scratch::new();
    let options = Options::default();
    let _backend = Backend::new(&scratch.socket("a"), options.clone());
    let (mut driver, _) = driver(&scratch, Settings::block().queues(2).unwrap());
    for round in 1..=3 {
        driver.start(driver.offered());
        reads(&mut driver, 0);
        assert!(driver.reset_queue(0), "a queue is reset");
        reads(&mut driver, 1);
        driver.queues[0].events = true;
        assert!(driver.enable(0), "it is used again");
        driver.run();
        reads(&mut driver, 0);
        assert_eq!(count(&options.ended), round * 120);
    }
}

#[test]
fn nothing_is_served_before_the_driver_is_ready_or_after_it_failed() {
    let scratch = Scratch::new();
    let options = Options::default();
    let _backend = Backend::new(&scratch.socket("a"), options.clone());
    let (mut driver, _) = driver(&scratch, Settings::block());
    assert!(driver.negotiate(0) && driver.enable(0));
    ask(&mut driver, 0, (0, 1));
    driver.run();
    driver.set_status(0x0f);
    answers(&mut driver, 0, 1);
    assert_eq!(driver.set_status(0x8f), 0x8f);
    ask(&mut driver, 0, (0, 1));
    driver.run();
    assert!(driver.queues[0].used().is_empty(), "a driver that has failed is served");
    driver.start(0);
    reads(&mut driver, 0);
}

#[test]
fn the_driver_is_offered_what_the_back_end_has() {
    let scratch = Scratch::new();
    let ours = feature::VERSION_1 | feature::RING_RESET;
    let type_specific = 1 << 6 | 1 << 9 | 1 << 11;
    for queue_features in [0, INDIRECT, EVENT_IDX, INDIRECT | EVENT_IDX] {
        let other = PROTOCOL | 1 << 24 | 1 << 26 | 1 << 33 | 1 << 34;
        let features = feature::VERSION_1 | type_specific | queue_features | other;
        let options = Options { features, ..Options::default() };
        let _backend = Backend::new(&scratch.socket("a"), options);
        let (driver, _) = driver(&scratch, Settings::block());
        assert_eq!(driver.offered(), ours | type_specific | queue_features);
    }
}

#[test]
fn requests_in_flight_are_noted_and_ended_by_the_next_back_end() {
    let regions = survives(MQ | CONFIG | INFLIGHT);
    assert_eq!(regions, 1, "the notes of the first go to all others");
}

#[test]
fn requests_in_flight_are_followed_if_the_back_end_does_not_note_them() {
    assert_eq!(survives(CONFIG), 0);
}

#[test]
fn requests_that_were_noted_are_found_by_a_back_end_that_knows_of_no_notes() {
    assert_eq!(survives_as([MQ | CONFIG | INFLIGHT, CONFIG]), 3);
}

/// A back end that ends every second request dies, another one takes its place: how often memory was
/// made for notes.
fn survives(protocol: u64) -> usize {
    survives_as([protocol; 2])
}

/// The same with two kinds of back ends, in turn.
fn survives_as(protocols: [u64; 2]) -> usize {
    let scratch = Scratch::new();
    let first = Options { protocol: protocols[0], ..Options::default() };
    let mut kinds =
        [first.clone(), Options { protocol: protocols[1], ..first }].into_iter().cycle();
    let mut options = kinds.next().unwrap();
    let mut backend = Some(Backend::new(&scratch.socket("a"), options.clone()));
    let (mut driver, handle) = driver(&scratch, Settings::block());
    driver.start(feature::EVENT_IDX);
    for round in 0..5 {
        reads(&mut driver, 0);
        options.skips.store(true, SeqCst);
        let before = count(&options.taken);
        let heads: Vec<_> = (0..4).map(|slot| ask(&mut driver, 0, (slot, slot + round))).collect();
        wait_until("all are taken", || count(&options.taken) == before + 4);
        drop(backend.take());
        loses(&mut driver, &handle);

        options.skips.store(false, SeqCst);
        options = kinds.next().unwrap();
        backend = Some(Backend::new(&scratch.socket("a"), options.clone()));
        let mut used = answers(&mut driver, 0, 4);
        used.sort_unstable();
        let mut heads: Vec<_> = heads.into_iter().map(u32::from).collect();
        heads.sort_unstable();
        assert_eq!(used, heads, "each comes back once");
        (0..4).for_each(|slot| holds(&driver, (slot, slot + round)));
        assert!(!driver.is_broken());
    }
    count(&options.regions)
}

#[test]
fn a_driver_is_interrupted_for_what_a_back_end_ended_before_it_died() {
    let scratch = Scratch::new();
    let options = Options::default();
    let backend = Backend::new(&scratch.socket("a"), options.clone());
    let (mut driver, handle) = driver(&scratch, Settings::block());
    driver.start(driver.offered());
    reads(&mut driver, 0);
    options.mute.store(true, SeqCst);
    ask(&mut driver, 0, (0, 1));
    answers(&mut driver, 0, 1);
    let raised = driver.raised();
    drop(backend);
    loses(&mut driver, &handle);
    driver.run();
    assert!(driver.raised() > raised);
}

#[test]
fn a_driver_is_interrupted_for_what_a_back_end_ended_before_it_died_in_a_stop() {
    let scratch = Scratch::new();
    let options = Options { lie: Some((GET_VRING_BASE, Lie::Close)), ..Options::default() };
    let _backend = Backend::new(&scratch.socket("a"), options.clone());
    let (mut driver, handle) = driver(&scratch, Settings::block());
    driver.start(driver.offered());
    reads(&mut driver, 0);
    options.mute.store(true, SeqCst);
    ask(&mut driver, 0, (0, 1));
    answers(&mut driver, 0, 1);
    let raised = driver.raised();
    driver.save();
    assert!(!handle.with(|block| block.is_connected()));
    driver.run();
    assert!(driver.raised() > raised);
}

#[test]
fn a_back_end_that_says_it_stopped_where_it_cannot_have_is_not_believed() {
    let scratch = Scratch::new();
    let options = Options { lie: Some((GET_VRING_BASE, Lie::Beyond)), ..Options::default() };
    let _backend = Backend::new(&scratch.socket("a"), options);
    // It would panic if a ring went on elsewhere.
    let _other = Backend::new(&scratch.socket("b"), Options::default());
    let (mut driver, _) = driver(&scratch, Settings::block());
    driver.start(driver.offered());
    reads(&mut driver, 0);
    let block = Block::connect(scratch.socket("b"), Settings::block()).unwrap();
    let mut driver = driver.transplant(virtio::mmio(block));
    reads(&mut driver, 0);
}

#[test]
fn requests_made_while_no_back_end_is_there_are_served_by_the_next() {
    let scratch = Scratch::new();
    let backend = Backend::new(&scratch.socket("a"), Options::default());
    let (mut driver, handle) = driver(&scratch, Settings::block());
    drop(backend);
    loses(&mut driver, &handle);
    driver.start(driver.offered());
    ask(&mut driver, 0, (0, 9));
    driver.run();
    assert!(driver.queues[0].used().is_empty());
    driver.reset();
    driver.start(driver.offered());
    ask(&mut driver, 0, (0, 11));

    let _backend = Backend::new(&scratch.socket("a"), Options::default());
    answers(&mut driver, 0, 1);
    holds(&driver, (0, 11));
    reads(&mut driver, 0);
}

#[test]
fn a_back_end_that_comes_back_as_another_one_is_not_used() {
    let good = Options::default();
    let fewer = Options { features: good.features & !(1 << 9), ..good.clone() };
    let without_config = Options { protocol: MQ, ..good.clone() };
    let fewer_queues = Options { queues: 1, ..good.clone() };
    for (other, breaks) in [(fewer, true), (without_config, false), (fewer_queues, false)] {
        let scratch = Scratch::new();
        let backend = Backend::new(&scratch.socket("a"), good.clone());
        let (mut driver, handle) = driver(&scratch, Settings::block().queues(2).unwrap());
        driver.start(driver.offered());
        drop(backend);
        loses(&mut driver, &handle);
        let _backend = Backend::new(&scratch.socket("a"), other.clone());
        if breaks {
            wait_until("the device asks for a reset", || {
                driver.run();
                driver.is_broken()
            });
        }
        assert!(!handle.with(|block| block.is_connected()));
    }
}

#[test]
fn a_disk_that_comes_back_larger_is_announced() {
    let scratch = Scratch::new();
    let backend = Backend::new(&scratch.socket("a"), Options::default());
    let (mut driver, handle) = driver(&scratch, Settings::block());
    driver.start(driver.offered());
    driver.acknowledge();
    drop(backend);
    loses(&mut driver, &handle);
    let larger = Options { capacity: 2 * SECTORS, ..Options::default() };
    let _backend = Backend::new(&scratch.socket("a"), larger);
    let mut capacity = [0; 8];
    wait_until("the driver reads the new size", || {
        driver.run();
        driver.read_config(0, &mut capacity);
        u64::from_le_bytes(capacity) == 2 * SECTORS
    });
    assert_eq!(driver.acknowledge() & 2, 2, "the driver is told");
    assert!(!driver.is_broken());
    reads(&mut driver, 0);
}

#[test]
fn a_disk_that_grows_is_announced() {
    let scratch = Scratch::new();
    let options = Options { protocol: CONFIG | BACKEND_REQ, ..Options::default() };
    let _backend = Backend::new(&scratch.socket("a"), options.clone());
    let (mut driver, _) = driver(&scratch, Settings::block());
    driver.start(driver.offered());
    driver.acknowledge();
    options.grows.store(true, SeqCst);
    ask(&mut driver, 0, (0, 1));
    let mut capacity = [0; 8];
    wait_until("the driver reads the new size", || {
        driver.run();
        driver.read_config(0, &mut capacity);
        u64::from_le_bytes(capacity) == 2 * SECTORS
    });
    assert_eq!(driver.acknowledge() & 2, 2, "the driver is told");
}

#[test]
fn the_driver_sets_the_cache_and_a_reset_sets_it_back() {
    let scratch = Scratch::new();
    let backend = Backend::new(&scratch.socket("a"), Options::default());
    let (mut driver, handle) = driver(&scratch, Settings::block());
    let cache = |driver: &Driver| {
        let mut cache = [0xff];
        driver.read_config(32, &mut cache);
        cache[0]
    };
    driver.start(driver.offered());
    assert_eq!(cache(&driver), 1);
    driver.write_config(0, &[7; 8]);
    driver.write_config(32, &[0]);
    assert_eq!(cache(&driver), 0);

    drop(backend);
    loses(&mut driver, &handle);
    let _backend = Backend::new(&scratch.socket("a"), Options::default());
    reads(&mut driver, 0);
    assert_eq!(cache(&driver), 0, "the next back end is told");
    driver.reset();
    assert_eq!(cache(&driver), 1);
}

#[test]
fn a_saved_disk_goes_on_with_another_back_end() {
    let scratch = Scratch::new();
    let options = Options::default();
    let _backend = Backend::new(&scratch.socket("a"), options.clone());
    let _other = Backend::new(&scratch.socket("b"), options);
    let (mut driver, _) = driver(&scratch, Settings::block());
    driver.start(driver.offered());
    reads(&mut driver, 0);
    ask(&mut driver, 0, (0, 5));
    let block = Block::connect(scratch.socket("b"), Settings::block()).unwrap();
    let mut driver = driver.transplant(virtio::mmio(block));
    answers(&mut driver, 0, 1);
    holds(&driver, (0, 5));
    reads(&mut driver, 0);
}

#[test]
fn what_only_the_notes_of_a_back_end_tell_is_not_saved_without_it() {
    for (protocol, saves) in [(MQ | CONFIG | INFLIGHT, false), (CONFIG, true)] {
        let scratch = Scratch::new();
        let options = Options { protocol, ..Options::default() };
        let backend = Backend::new(&scratch.socket("a"), options.clone());
        let (mut driver, handle) = driver(&scratch, Settings::block());
        driver.start(driver.offered());
        reads(&mut driver, 0);
        driver.save();
        driver.run();
        options.holds.store(true, SeqCst);
        let before = count(&options.taken);
        ask(&mut driver, 0, (0, 1));
        wait_until("it is taken", || count(&options.taken) > before);
        drop(backend);
        loses(&mut driver, &handle);
        assert_eq!(handle.with(|block| block.save().is_ok()), saves);
        driver.reset();
        assert!(handle.with(|block| block.save().is_ok()), "nothing is in flight");
    }
}

#[test]
fn a_disk_goes_on_after_it_was_saved() {
    let scratch = Scratch::new();
    let _backend = Backend::new(&scratch.socket("a"), Options::default());
    let (mut driver, _) = driver(&scratch, Settings::block());
    driver.start(driver.offered());
    for _ in 0..3 {
        reads(&mut driver, 0);
        let saved = driver.save();
        assert_eq!(driver.save(), saved);
        ask(&mut driver, 0, (0, 3));
        answers(&mut driver, 0, 1);
    }
}
