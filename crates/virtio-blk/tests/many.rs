//! Many requests at a time: io_uring, several queues, limits, and a disk that changes its size.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod plain;

use std::{
    fs::File,
    io::Write,
    num::NonZeroU64,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use nix::unistd::pipe;

use plain::{FLUSH, Guest, IN, IOERR, OK, OUT, Plain, SECTORS};
use purlin_virtio_blk::{Blk, BlkConfig, Cache, Engine, EngineError};
use rate::{Rate, Rates};
use virtio::conformance;

const MQ: u64 = 1 << 12;

fn blk(disk: &Plain) -> Blk {
    Blk::new(disk.again(), BlkConfig::default())
}

fn ring(disk: &Plain) -> Blk {
    blk(disk).engine(Engine::IoUring).unwrap()
}

#[test]
fn the_ring_conforms_in_every_cache_mode() {
    for cache in [Cache::WriteBack, Cache::WriteThrough, Cache::Unsafe] {
        let disk = Plain::new();
        conformance::device(|| {
            let config = BlkConfig { cache, ..BlkConfig::default() };
            Blk::new(disk.again(), config).engine(Engine::IoUring).unwrap()
        });
    }
}

#[test]
fn several_queues_conform_and_are_offered() {
    let disk = Plain::new();
    conformance::device(|| ring(&disk).queues(3));
    let guest = Guest::new(ring(&disk).queues(3));
    assert_eq!(guest.driver.queues.len(), 3);
    assert_eq!(guest.driver.offered() & MQ, MQ);
    let mut count = [0; 2];
    guest.driver.read_config(34, &mut count);
    assert_eq!(count, [3, 0]);
    assert_eq!(Guest::new(blk(&disk)).driver.offered() & MQ, 0);
    assert_eq!(Guest::new(blk(&disk).queues(0)).driver.queues.len(), 1);
    assert_eq!(Guest::new(blk(&disk).queues(99)).driver.queues.len(), usize::from(Blk::QUEUES));
}

#[test]
fn requests_of_all_queues_are_under_way_together_and_each_gets_its_own() {
    let disk = Plain::new();
    for engine in [Engine::Sync, Engine::IoUring] {
        let mut guest = Guest::new(blk(&disk).queues(2).engine(engine).unwrap());
        for number in 0..20 {
            let queue = usize::try_from(number % 2).unwrap();
            guest.offer(queue, number, (IN, number * 7));
        }
        guest.driver.kick(0);
        guest.driver.kick(1);
        guest.wait(0, 10);
        guest.wait(1, 10);
        for number in 0..20 {
            assert_eq!(guest.answer(number), (OK, disk.sector(number * 7)));
        }
    }
}

#[test]
fn requests_that_the_ring_has_no_room_for_wait_for_their_turn() {
    // A disk that answers no read before somebody has written to it.
    let (reader, writer) = pipe().unwrap();
    let mut guest = Guest::new(ring(&Plain::over(File::from(reader))).queues(20));
    let mut writer = File::from(writer);
    let requests = 20 * 16;
    assert!(requests > usize::from(Blk::DEPTH));
    for queue in 0..20 {
        for _ in 0..16 {
            guest.offer(queue, queue.try_into().unwrap(), (IN, 0));
        }
        guest.driver.kick(queue);
    }
    guest.driver.run();
    assert!((0..20).all(|queue: usize| guest.driver.queues[queue].used().is_empty()));
    let data = thread::spawn(move || writer.write_all(&vec![7; requests * 512]).unwrap());
    (0..20).for_each(|queue| guest.wait(queue, 16));
    data.join().unwrap();
    assert!((0..20).all(|number| guest.answer(number) == (OK, vec![7; 512])));
    assert_eq!(guest.handle.with(|blk| blk.failures()), 0);
}

#[test]
fn what_is_written_and_flushed_is_in_the_file() {
    let disk = Plain::new();
    for cache in [Cache::WriteBack, Cache::WriteThrough, Cache::Unsafe] {
        let config = BlkConfig { cache, ..BlkConfig::default() };
        let blk = Blk::new(disk.again(), config).engine(Engine::IoUring).unwrap();
        assert!(blk.is_io_uring());
        let mut guest = Guest::new(blk);
        for number in 0..4 {
            guest.put(number, &[0x40 + u8::try_from(number).unwrap(); 512]);
            guest.offer(0, number, (OUT, 100 + number));
        }
        guest.offer(0, 4, (FLUSH, 0));
        guest.driver.kick(0);
        guest.wait(0, 5);
        for number in 0..4 {
            assert_eq!(guest.answer(number).0, OK);
            assert_eq!(disk.sector(100 + number), [0x40 + u8::try_from(number).unwrap(); 512]);
        }
        assert_eq!(guest.answer(4).0, OK);
    }
}

#[test]
fn an_image_cut_short_is_an_error_to_the_guest_and_the_rest_goes_on() {
    for engine in [Engine::Sync, Engine::IoUring] {
        let disk = Plain::new();
        let mut guest = Guest::new(blk(&disk).engine(engine).unwrap());
        disk.file.set_len(512 * 10 + 100).unwrap();
        guest.offer(0, 0, (IN, 9));
        guest.offer(0, 1, (IN, 10));
        guest.offer(0, 2, (IN, 11));
        guest.driver.kick(0);
        guest.wait(0, 3);
        let answers = [0, 1, 2].map(|number| guest.answer(number).0);
        assert_eq!(answers, [OK, IOERR, IOERR], "{engine:?}");
        assert_eq!(guest.handle.with(|blk| blk.failures()), 2);
    }
}

#[test]
fn a_full_host_is_an_error_to_the_guest_and_the_rest_goes_on() {
    let disk = Plain::full();
    for engine in [Engine::Sync, Engine::IoUring] {
        for cache in [Cache::WriteBack, Cache::WriteThrough, Cache::Unsafe] {
            let config = BlkConfig { cache, ..BlkConfig::default() };
            let blk = Blk::new(disk.again(), config).engine(engine).unwrap();
            let mut guest = Guest::new(blk);
            guest.offer(0, 0, (IN, 9));
            guest.offer(0, 1, (OUT, 10));
            guest.offer(0, 2, (OUT, 11));
            guest.offer(0, 3, (IN, 12));
            // The host cannot flush this file, which is seen where it is asked to.
            guest.offer(0, 4, (FLUSH, 0));
            guest.driver.kick(0);
            guest.wait(0, 5);
            let answers = [0, 1, 2, 3, 4].map(|number| guest.answer(number).0);
            let flush = if cache == Cache::Unsafe { OK } else { IOERR };
            assert_eq!(answers, [OK, IOERR, IOERR, OK, flush], "{engine:?}, {cache:?}");
        }
    }
}

#[test]
fn a_reset_waits_for_what_is_under_way() {
    let disk = Plain::new();
    let mut guest = Guest::new(ring(&disk));
    for number in 0..5 {
        guest.put(number, &[9; 512]);
        guest.offer(0, number, (OUT, number));
    }
    guest.offer(0, 5, (FLUSH, 0));
    guest.driver.kick(0);
    guest.driver.turn();
    guest.driver.reset();
    assert!((0..5).all(|sector| disk.sector(sector) == [9; 512]));
    guest.driver.start(guest.driver.offered());
    guest.offer(0, 0, (IN, 50));
    guest.driver.kick(0);
    guest.wait(0, 1);
    assert_eq!(guest.answer(0), (OK, disk.sector(50)));
}

#[test]
fn a_snapshot_holds_nothing_that_is_under_way() {
    let disk = Plain::new();
    let mut guest = Guest::new(ring(&disk));
    for number in 0..5 {
        guest.offer(0, number, (IN, number * 11));
    }
    guest.offer(0, 5, (FLUSH, 0));
    guest.driver.kick(0);
    guest.driver.turn();
    let mut guest = guest.transplant(ring(&disk));
    guest.wait(0, 6);
    assert!((0..5).all(|number| guest.answer(number) == (OK, disk.sector(number * 11))));
}

#[test]
fn a_guest_is_told_of_another_size_and_may_use_it() {
    let disk = Plain::new();
    let mut guest = Guest::new(ring(&disk));
    let capacity = |guest: &Guest| {
        let mut bytes = [0; 8];
        guest.driver.read_config(0, &mut bytes);
        u64::from_le_bytes(bytes)
    };
    let (generation, raised) = (guest.driver.generation(), guest.driver.raised());
    disk.file.set_len(2 * SECTORS * 512).unwrap();
    assert_eq!(capacity(&guest), SECTORS, "nobody has looked yet");
    guest.handle.with(Blk::resize).unwrap();
    assert_eq!(capacity(&guest), 2 * SECTORS);
    assert_ne!(guest.driver.generation(), generation);
    assert_eq!(guest.driver.raised(), raised + 1);
    guest.offer(0, 0, (IN, 2 * SECTORS - 1));
    guest.offer(0, 1, (IN, 2 * SECTORS));
    guest.driver.kick(0);
    guest.wait(0, 2);
    assert_eq!([guest.answer(0).0, guest.answer(1).0], [OK, IOERR]);

    disk.file.set_len(512).unwrap();
    guest.handle.with(Blk::resize).unwrap();
    assert_eq!(capacity(&guest), 1);
    guest.handle.with(Blk::resize).unwrap();
    assert_eq!(guest.driver.raised(), raised + 3, "one more for requests, one for the size");
}

#[test]
fn a_limited_disk_lets_requests_wait_and_forgets_none() {
    let disk = Plain::new();
    for engine in [Engine::Sync, Engine::IoUring] {
        for rates in [
            Rates { ops: NonZeroU64::new(200).map(|rate| Rate::new(rate).size(1)), bytes: None },
            Rates {
                ops: None,
                bytes: NonZeroU64::new(200 * 512).map(|rate| Rate::new(rate).size(512)),
            },
        ] {
            let mut guest = Guest::new(blk(&disk).engine(engine).unwrap().limit(rates).unwrap());
            let start = Instant::now();
            for number in 0..11 {
                guest.offer(0, number, (IN, number));
            }
            guest.driver.kick(0);
            guest.wait(0, 11);
            // The first is free, the others take 5 ms each.
            assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
            assert!((0..11).all(|number| guest.answer(number) == (OK, disk.sector(number))));
        }
    }
}

#[test]
fn rates_that_change_let_go_what_waits_and_hold_what_comes() {
    let disk = Plain::new();
    let one = NonZeroU64::new(1).map(|rate| Rate::new(rate).size(1));
    let (none, some) = (Rates::default(), Rates { ops: one, bytes: None });
    for engine in [Engine::Sync, Engine::IoUring] {
        let mut guest = Guest::new(blk(&disk).engine(engine).unwrap().limit(none).unwrap());
        let start = Instant::now();
        assert!(guest.handle.with(|blk| blk.set_rates(some)));
        (0..16).for_each(|number| guest.offer(0, number, (IN, number)));
        guest.driver.kick(0);
        guest.wait(0, 1);
        assert!(guest.driver.queues[0].used().is_empty(), "the others take a second each");
        assert!(guest.handle.with(|blk| blk.set_rates(none)));
        guest.wait(0, 15);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
    let guest = Guest::new(blk(&disk));
    assert!(!guest.handle.with(|blk| blk.set_rates(some)), "a disk without a limit has no timer");
}

#[test]
fn an_engine_that_cannot_be_had_is_an_error_only_if_it_was_named() {
    let memory = || Blk::new(disk::Memory::new(8).unwrap(), BlkConfig::default());
    assert!(matches!(memory().engine(Engine::IoUring), Err(EngineError::NoFile)));
    assert!(!memory().engine(Engine::Auto).unwrap().is_io_uring());
    let disk = Plain::new();
    assert!(blk(&disk).engine(Engine::Auto).unwrap().is_io_uring());
    assert!(!blk(&disk).engine(Engine::Sync).unwrap().is_io_uring());
}

#[test]
fn a_disk_that_wants_blocks_says_so_and_serves_sectors_all_the_same() {
    for (align, copies) in [(1, 0), (512, 0), (4096, 2)] {
        let mut disk = Plain::new();
        disk.align = align;
        for engine in [Engine::Sync, Engine::IoUring] {
            let mut guest = Guest::new(blk(&disk).engine(engine).unwrap());
            disk.copied.store(0, Ordering::Relaxed);
            guest.offer(0, 0, (OUT, 8));
            guest.offer(0, 1, (IN, 8));
            guest.driver.kick(0);
            guest.wait(0, 2);
            assert_eq!(disk.copied.load(Ordering::Relaxed), copies, "{align} by {engine:?}");
        }
    }
    let mut disk = Plain::new();
    disk.align = 4096;
    for engine in [Engine::Sync, Engine::IoUring] {
        let mut guest = Guest::new(blk(&disk).engine(engine).unwrap());
        let mut bytes = [0; 12];
        guest.driver.read_config(20, &mut bytes);
        assert_eq!(bytes, [0, 16, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], "4096, none, 1 block");
        guest.put(0, &[3; 512]);
        guest.offer(0, 0, (OUT, 3));
        guest.offer(0, 1, (IN, 8));
        guest.driver.kick(0);
        guest.wait(0, 2);
        assert_eq!(guest.answer(0).0, OK);
        assert_eq!(disk.sector(3), [3; 512]);
        assert_eq!(guest.answer(1), (OK, disk.sector(8)));
    }
}
