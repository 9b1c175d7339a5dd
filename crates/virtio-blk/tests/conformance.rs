//! What every virtio device must do, and what a snapshot must hold of this one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use device::Persist;
use disk::{Access, Memory, Raw};
use purlin_virtio_blk::{Blk, BlkConfig, BlkState, Cache};
use virtio::conformance::{self, Driver, Request};

const SECTORS: u64 = 64;

fn blk(cache: Cache) -> Blk {
    Blk::new(Memory::new(SECTORS).unwrap(), BlkConfig { cache, ..BlkConfig::default() })
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

#[test]
fn it_conforms_in_every_cache_mode() {
    for cache in [Cache::WriteBack, Cache::WriteThrough, Cache::Unsafe] {
        conformance::device(|| blk(cache));
    }
}

#[test]
fn every_request_is_served_however_it_is_cut() {
    let identity = "a-disk".parse().unwrap();
    let make = || {
        let config = BlkConfig { identity, ..BlkConfig::default() };
        Blk::new(Memory::new(SECTORS).unwrap(), config)
    };
    let write = [header(1, 2), vec![7; 4096]].concat();
    let discard = [header(11, 0), vec![0; 32]].concat();
    let zeroes = [header(13, 0), vec![0; 16]].concat();
    let identity = b"a-disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let requests = [
        (header(0, 1), vec![0; 1024 + 1]),
        (write, vec![0]),
        (header(4, 0), vec![0]),
        (header(8, 0), identity),
        (discard, vec![0]),
        (zeroes, vec![0]),
        (header(99, 0), vec![2]),
    ];
    for (readable, answer) in requests {
        let room = u32::try_from(answer.len()).unwrap();
        let request = Request { queue: 0, readable, room, answer: Some(answer), len: room };
        conformance::serves(make, &request);
    }
}

#[test]
fn a_snapshot_keeps_the_cache_off() {
    let mut driver = Driver::new(virtio::mmio(blk(Cache::WriteBack)));
    driver.start(driver.offered());
    driver.write_config(32, &[0]);
    let driver = driver.transplant(virtio::mmio(blk(Cache::WriteBack)));
    let mut writeback = [9];
    driver.read_config(32, &mut writeback);
    assert_eq!(writeback, [0]);
}

#[test]
fn a_snapshot_of_another_disk_is_refused() {
    let mut own = blk(Cache::WriteBack);
    let state = own.save().unwrap();
    assert_eq!(state, BlkState { capacity: SECTORS, read_only: false, writeback: true });
    let error = own.restore(BlkState { capacity: 65, ..state }).unwrap_err();
    assert!(error.to_string().contains("had 65 sectors and has 64"), "{error}");
    let error = own.restore(BlkState { read_only: true, ..state }).unwrap_err();
    assert!(error.to_string().contains("was read-only"), "{error}");
    assert!(blk(Cache::Unsafe).restore(state).is_err());
    own.restore(BlkState { writeback: false, ..state }).unwrap();
    assert!(!own.save().unwrap().writeback);
}

#[test]
fn an_image_is_opened_locked_and_refused_by_name() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = path.join(format!("blk-{}", std::process::id()));
    std::fs::write(&path, vec![0; 4096]).unwrap();
    let blk = Blk::open(&path).unwrap();
    let locked = Raw::open(&path, Access::ReadOnly).unwrap_err();
    drop(blk);
    let read_only = Raw::open(&path, Access::ReadOnly).unwrap();
    conformance::announces_itself(&|| {
        let again = Raw::open(&path, Access::ReadOnly).unwrap();
        virtio::mmio(Blk::new(again, BlkConfig::default()))
    });
    drop(read_only);
    std::fs::remove_file(&path).unwrap();
    assert!(locked.to_string().contains(path.to_str().unwrap()), "{locked}");
    assert!(Blk::open(&path).is_err());
}
