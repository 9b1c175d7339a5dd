//! What a balloon does with what its driver asks.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::{fs::File, os::unix::fs::FileExt, time::Duration};

use memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryRegion};
use purlin_virtio_balloon::{Balloon, BalloonConfig};
use virtio::{
    Handle,
    conformance::{BUFFERS, Driver},
};

const PAGE: u64 = 4096;
/// The first page of the upper half of RAM: no rings are there, and buffers only while they are read.
const FREE: u64 = 0x80;
/// How many pages RAM has.
const PAGES: u64 = 0x100;
/// Where statistics are put.
const STATISTICS: u64 = BUFFERS + 0x2000;

const REPORTING: BalloonConfig =
    BalloonConfig { deflate_on_oom: false, free_page_reporting: true, statistics: None };

fn driver(config: BalloonConfig) -> (Driver, Handle<Balloon>) {
    let (mut driver, handle) = Driver::with_handle(virtio::mmio(Balloon::new(config).unwrap()));
    driver.start(driver.offered());
    // All of the free half is really there.
    let free = vec![0x5a; usize::try_from((PAGES - FREE) * PAGE).unwrap()];
    driver.memory().write_slice(&free, GuestAddress(FREE * PAGE)).unwrap();
    (driver, handle)
}

/// Whether each of `pages` is in this process, by `/proc/self/pagemap`.
fn resident(memory: &GuestMemory, pages: impl Iterator<Item = u64>) -> Vec<bool> {
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let is_there = |page: u64| {
        let region = memory.find_region(GuestAddress(page * PAGE)).unwrap();
        let start = region.as_ptr().addr() as u64 - region.start_addr().0;
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, (start + page * PAGE) / PAGE * 8).unwrap();
        u64::from_le_bytes(entry) >> 63 == 1
    };
    pages.map(is_there).collect()
}

/// How many of the pages that were there first still are.
fn left(driver: &Driver) -> usize {
    resident(driver.memory(), FREE..PAGES).into_iter().filter(|there| *there).count()
}

/// Sends page numbers to queue `queue`, and gets them back.
fn send(driver: &mut Driver, queue: usize, numbers: &[u32]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    send_bytes(driver, queue, &bytes);
}

fn send_bytes(driver: &mut Driver, queue: usize, bytes: &[u8]) {
    driver.memory().write_slice(bytes, GuestAddress(BUFFERS)).unwrap();
    let len = u32::try_from(bytes.len()).unwrap();
    let head = driver.queues[queue].offer(&[(BUFFERS, len, false)]);
    driver.kick_and_run(queue);
    assert_eq!(driver.queues[queue].used(), [(head.into(), 0)]);
}

#[test]
fn pages_put_into_the_balloon_leave_the_host() {
    let (mut driver, handle) = driver(BalloonConfig::default());
    assert_eq!(left(&driver), 128);
    send(&mut driver, 0, &[0x90, 0x91, 0x92, 0xa0]);
    assert_eq!(left(&driver), 124);
    assert_eq!(
        resident(driver.memory(), [0x8f, 0x90, 0x93, 0xa0].into_iter()),
        [true, false, true, false]
    );
    assert_eq!(handle.with(|balloon| balloon.given_back()), 4 * PAGE);
}

#[test]
fn order_and_repetition_do_not_matter() {
    let (mut driver, handle) = driver(BalloonConfig::default());
    let descending: Vec<u32> = (0x80..0x100).rev().chain([0x80, 0xff, 0x90]).collect();
    send(&mut driver, 0, &descending);
    assert_eq!(left(&driver), 0);
    assert_eq!(handle.with(|balloon| balloon.given_back()), 128 * PAGE);
}

#[test]
fn a_page_taken_out_again_is_a_new_one() {
    let (mut driver, _handle) = driver(BalloonConfig::default());
    send(&mut driver, 0, &[0x90]);
    send(&mut driver, 1, &[0x90]);
    let at = GuestAddress(0x90 * PAGE);
    assert_eq!(driver.memory().read_obj::<u64>(at).unwrap(), 0);
    driver.memory().write_obj(7_u64, at).unwrap();
    assert_eq!(driver.memory().read_obj::<u64>(at).unwrap(), 7);
}

#[test]
fn deflating_takes_nothing() {
    let (mut driver, handle) = driver(BalloonConfig::default());
    send(&mut driver, 1, &[0x90, 0x91]);
    assert_eq!(left(&driver), 128);
    assert_eq!(handle.with(|balloon| balloon.given_back()), 0);
}

#[test]
fn pages_outside_ram_are_passed_over() {
    let (mut driver, _handle) = driver(BalloonConfig::default());
    send(&mut driver, 0, &[0x100, 0x101, 0xf_ffff, u32::MAX, 0xff, u32::MAX - 1]);
    assert_eq!(left(&driver), 127);
}

#[test]
fn half_a_page_number_is_none() {
    let (mut driver, _handle) = driver(BalloonConfig::default());
    for len in 1..4 {
        send_bytes(&mut driver, 0, &[0x90, 0, 0][..len]);
    }
    assert_eq!(left(&driver), 128);
    send_bytes(&mut driver, 0, &[0x90, 0, 0, 0, 0x91, 0]);
    assert_eq!(left(&driver), 127);
}

#[test]
fn a_request_without_end_is_cut_off() {
    let (mut driver, _handle) = driver(BalloonConfig::default());
    let mut numbers = vec![0x90; 4096];
    numbers.push(0x91);
    // The buffer reaches into the free half, which is not asked for here.
    send(&mut driver, 0, &numbers);
    assert_eq!(resident(driver.memory(), [0x90, 0x91].into_iter()), [false, true]);
}

#[test]
fn the_driver_is_told_of_a_new_target_and_tells_its_size() {
    let (mut driver, handle) = driver(BalloonConfig::default());
    let raised = driver.raised();
    handle.with(|balloon| balloon.set_target(64 << 20));
    driver.run();
    assert_eq!(driver.raised(), raised + 1);
    let mut pages = [0; 4];
    driver.read_config(0, &mut pages);
    assert_eq!(u32::from_le_bytes(pages), 16384);
    driver.write_config(4, &1000_u32.to_le_bytes());
    assert_eq!(
        handle.with(|balloon| (balloon.target(), balloon.actual())),
        (64 << 20, 1000 * PAGE)
    );
    driver.reset();
    assert_eq!(handle.with(|balloon| (balloon.target(), balloon.actual())), (64 << 20, 0));
}

#[test]
fn a_target_beyond_what_can_be_said_is_the_largest() {
    let mut balloon = Balloon::new(BalloonConfig::default()).unwrap();
    balloon.set_target(u64::MAX);
    assert_eq!(balloon.target(), u64::from(u32::MAX) * PAGE);
}

/// Reports `len` bytes at `start` as free, on queue `queue`.
fn report(driver: &mut Driver, queue: usize, start: u64, len: u32) {
    let head = driver.queues[queue].offer(&[(start, len, true)]);
    driver.kick_and_run(queue);
    assert_eq!(driver.queues[queue].used(), [(head.into(), 0)]);
}

#[test]
fn reported_pages_leave_the_host_on_the_queue_of_any_driver() {
    let statistics = BalloonConfig { statistics: Some(Duration::ZERO), ..REPORTING };
    // Linux counts only the queues that are there; the standard counts all of them.
    for (config, queues) in [(REPORTING, [2, 4]), (statistics, [3, 4])] {
        for queue in queues {
            let (mut driver, handle) = driver(config);
            report(&mut driver, queue, FREE * PAGE, 0x1_0000);
            assert_eq!(left(&driver), 112, "queue {queue}");
            assert_eq!(handle.with(|balloon| balloon.given_back()), 0x1_0000);
        }
    }
}

#[test]
fn several_ranges_may_be_reported_at_once() {
    let (mut driver, _handle) = driver(REPORTING);
    let ranges = [(0x80, 2), (0x90, 1), (0xfe, 2)];
    let chain = ranges.map(|(page, count)| (page * PAGE, count * 4096, true));
    driver.queues[2].offer(&chain);
    driver.kick_and_run(2);
    assert_eq!(left(&driver), 123);
}

#[test]
fn of_a_reported_range_whole_pages_count() {
    let (mut driver, _handle) = driver(REPORTING);
    for (start, len) in [(0x80_001, 4096), (0x80_800, 100), (0x80_fff, 4097)] {
        report(&mut driver, 2, start, len);
    }
    assert_eq!(resident(driver.memory(), [0x80, 0x81, 0x82].into_iter()), [true, false, true]);
}

#[test]
fn what_the_driver_only_lets_us_read_is_not_reported() {
    let (mut driver, _handle) = driver(REPORTING);
    driver.queues[2].offer(&[(FREE * PAGE, 0x1000, false)]);
    driver.kick_and_run(2);
    assert_eq!(left(&driver), 128);
}

#[test]
fn poisoned_pages_are_left_alone_and_zeroed_ones_are_not() {
    let (mut driver, _handle) = driver(REPORTING);
    driver.write_config(12, &0xaaaa_aaaa_u32.to_le_bytes());
    report(&mut driver, 2, FREE * PAGE, 0x1000);
    assert_eq!(left(&driver), 128);
    driver.write_config(12, &0_u32.to_le_bytes());
    report(&mut driver, 2, FREE * PAGE, 0x1000);
    assert_eq!(left(&driver), 127);
}

#[test]
fn what_pages_are_poisoned_with_counts_only_if_that_was_agreed_on() {
    let (mut driver, _handle) = driver(REPORTING);
    driver.start(driver.offered() & !(1 << 4));
    driver.write_config(12, &0xaaaa_aaaa_u32.to_le_bytes());
    report(&mut driver, 2, FREE * PAGE, 0x1000);
    assert_eq!(left(&driver), 127);
}

#[test]
fn poisoned_pages_are_left_alone_after_a_snapshot_too() {
    let (driver, _handle) = driver(REPORTING);
    driver.write_config(12, &0xaaaa_aaaa_u32.to_le_bytes());
    let mut driver = driver.transplant(virtio::mmio(Balloon::new(REPORTING).unwrap()));
    report(&mut driver, 2, FREE * PAGE, 0x1000);
    assert_eq!(left(&driver), 128);
}

#[test]
fn a_report_without_end_is_cut_off() {
    let (mut driver, _handle) = driver(REPORTING);
    // Every second page, so that none is a neighbour.
    let chain: Vec<_> = (0..40).map(|at| ((FREE + 2 + 2 * at) * PAGE, 4096, true)).collect();
    driver.queues[2].offer_indirect(FREE * PAGE, &chain);
    driver.kick_and_run(2);
    assert_eq!(driver.queues[2].used().len(), 1);
    assert_eq!(left(&driver), 128 - 32);
}

/// Offers statistics, which are kept.
fn tell(driver: &mut Driver, entries: &[(u16, u64)]) -> u16 {
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(tag, value)| tag.to_le_bytes().into_iter().chain(value.to_le_bytes()))
        .collect();
    driver.memory().write_slice(&bytes, GuestAddress(STATISTICS)).unwrap();
    let len = u32::try_from(bytes.len()).unwrap();
    let head = driver.queues[2].offer(&[(STATISTICS, len, false)]);
    driver.kick_and_run(2);
    head
}

fn asking(interval: Duration) -> BalloonConfig {
    BalloonConfig { statistics: Some(interval), ..BalloonConfig::default() }
}

#[test]
fn statistics_are_kept_until_new_ones_are_asked_for() {
    let (mut driver, handle) = driver(asking(Duration::ZERO));
    assert_eq!(handle.with(|balloon| balloon.statistics()), None);
    let head = tell(&mut driver, &[(5, 1 << 30), (999, 1), (4, 77)]);
    assert_eq!(driver.queues[2].used(), []);
    let first = handle.with(|balloon| balloon.statistics()).unwrap();
    assert_eq!((first.total, first.free, first.caches), (Some(1 << 30), Some(77), None));

    handle.with(|balloon| balloon.ask());
    driver.run();
    assert_eq!(driver.queues[2].used(), [(head.into(), 0)]);
    tell(&mut driver, &[(9, 8)]);
    assert_eq!(driver.queues[2].used(), []);
    let second = handle.with(|balloon| balloon.statistics()).unwrap();
    assert_eq!((second.total, second.huge_pages_failed), (None, Some(8)));
}

#[test]
fn statistics_are_asked_for_again_after_the_interval() {
    let (mut driver, _handle) = driver(asking(Duration::from_millis(20)));
    for _ in 0..3 {
        let head = tell(&mut driver, &[(4, 1)]);
        let mut used = driver.queues[2].used();
        while used.is_empty() {
            driver.run();
            used = driver.queues[2].used();
        }
        assert_eq!(used, [(head.into(), 0)]);
    }
}

#[test]
fn statistics_start_anew_after_a_reset() {
    let (mut driver, handle) = driver(asking(Duration::ZERO));
    tell(&mut driver, &[(4, 1)]);
    driver.start(driver.offered());
    tell(&mut driver, &[(4, 2)]);
    let statistics = handle.with(|balloon| balloon.statistics()).unwrap();
    assert_eq!(statistics.free, Some(2));
}

#[test]
fn statistics_that_are_no_statistics_say_nothing() {
    let (mut driver, handle) = driver(asking(Duration::ZERO));
    driver.queues[2].offer(&[(STATISTICS, 9, false)]);
    driver.kick_and_run(2);
    let statistics = handle.with(|balloon| balloon.statistics()).unwrap();
    assert_eq!((statistics.swapped_in, statistics.total), (None, None));
}

#[test]
fn statistics_without_end_are_cut_off() {
    let (mut driver, handle) = driver(asking(Duration::ZERO));
    let mut entries = vec![(999, 1); 63];
    entries.extend([(4, 2), (5, 3)]);
    tell(&mut driver, &entries);
    let statistics = handle.with(|balloon| balloon.statistics()).unwrap();
    assert_eq!((statistics.free, statistics.total), (Some(2), None));
}

#[test]
fn statistics_at_hand_are_read_again_after_a_restore() {
    let (mut driver, handle) = driver(asking(Duration::ZERO));
    tell(&mut driver, &[(4, 1)]);
    let saved = driver.save().remove(0);
    driver.memory().write_obj(2_u64.to_le_bytes(), GuestAddress(STATISTICS + 2)).unwrap();
    driver.wiring().components[0].lock().unwrap().restore_section(saved).unwrap();
    driver.run();
    assert_eq!(handle.with(|balloon| balloon.statistics()).unwrap().free, Some(2));
}
