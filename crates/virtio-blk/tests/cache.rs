//! When writes are made to last.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[expect(dead_code, reason = "faults and answers are for the other tests")]
mod probe;

use device::Persist;
use probe::{Call, Guest, OK, Probe, header, segment};
use purlin_virtio_blk::Cache;

const OUT: u32 = 1;
const FLUSH: u32 = 4;
const WRITEBACK: u64 = 32;

const F_FLUSH: u64 = 1 << 9;
const F_CONFIG_WCE: u64 = 1 << 11;

/// The calls that a write of a sector, and then a flush, lead to.
fn write_and_flush(guest: &mut Guest) -> (Vec<Call>, Vec<Call>) {
    guest.probe.calls();
    assert_eq!(guest.status(&[header(OUT, 1), vec![1; 512]]), OK);
    let write = guest.probe.calls();
    assert_eq!(guest.status(&[header(FLUSH, 0)]), OK);
    (write, guest.probe.calls())
}

const WRITE: Call = Call::Write(512, 512);

fn guest(cache: Cache, not: u64) -> Guest {
    Guest::new(Probe::new(), cache, not)
}

fn read_writeback(guest: &Guest) -> u8 {
    let mut value = [9];
    guest.driver.read_config(WRITEBACK, &mut value);
    value[0]
}

#[test]
fn write_back_lasts_after_a_flush() {
    let mut guest = guest(Cache::WriteBack, 0);
    assert_eq!(write_and_flush(&mut guest), (vec![WRITE], vec![Call::Flush]));
}

#[test]
fn write_through_lasts_at_once() {
    let mut guest = guest(Cache::WriteThrough, 0);
    assert_eq!(guest.driver.offered() & (F_FLUSH | F_CONFIG_WCE), 0);
    assert_eq!(write_and_flush(&mut guest), (vec![WRITE, Call::Flush], vec![Call::Flush]));
    for (kind, call) in [(11, Call::Discard(0, 4096)), (13, Call::WriteZeroes(0, 4096, false))] {
        assert_eq!(guest.status(&[header(kind, 0), segment(0, 8, 0)]), OK);
        assert_eq!(guest.probe.calls(), [call, Call::Flush]);
    }
}

#[test]
fn unsafe_never_waits() {
    let mut guest = guest(Cache::Unsafe, 0);
    assert_eq!(write_and_flush(&mut guest), (vec![WRITE], vec![]));
}

#[test]
fn a_driver_that_does_not_know_of_flushes_loses_nothing() {
    let mut guest = guest(Cache::WriteBack, F_FLUSH | F_CONFIG_WCE);
    assert_eq!(write_and_flush(&mut guest).0, [WRITE, Call::Flush]);
}

#[test]
fn a_driver_turns_the_cache_off_and_on() {
    let mut guest = guest(Cache::WriteBack, 0);
    assert_eq!(read_writeback(&guest), 1);
    guest.driver.write_config(WRITEBACK, &[0]);
    assert_eq!(read_writeback(&guest), 0);
    assert_eq!(write_and_flush(&mut guest).0, [WRITE, Call::Flush]);
    guest.driver.write_config(WRITEBACK, &[0x80]);
    assert_eq!(read_writeback(&guest), 1);
    assert_eq!(write_and_flush(&mut guest).0, [WRITE]);
    guest.driver.write_config(WRITEBACK, &[0]);
    guest.driver.reset();
    assert_eq!(read_writeback(&guest), 1);
}

#[test]
fn whoever_restores_a_snapshot_finds_all_that_was_written() {
    for cache in [Cache::WriteBack, Cache::WriteThrough, Cache::Unsafe] {
        let mut guest = guest(cache, 0);
        write_and_flush(&mut guest);
        guest.handle.with(|blk| blk.save()).unwrap();
        assert_eq!(guest.probe.calls(), [Call::Flush], "{cache:?}");
        guest.probe.fail(0, std::io::ErrorKind::StorageFull);
        assert!(guest.handle.with(|blk| blk.save()).is_err());
    }
}

#[test]
fn a_driver_that_has_not_asked_cannot_turn_the_cache_off() {
    let mut guest = guest(Cache::WriteBack, F_CONFIG_WCE);
    guest.driver.write_config(WRITEBACK, &[0]);
    assert_eq!(read_writeback(&guest), 1);
    assert_eq!(write_and_flush(&mut guest).0, [WRITE]);
}
