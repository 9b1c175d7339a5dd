//! Requests are bounded, however often their buffers name the same memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use disk::Memory;
use memory::{Bytes, GuestAddress};
use purlin_virtio_blk::{Blk, BlkConfig};
use virtio::conformance::{BUFFERS, Driver};

/// Bytes of a piece; 128 of them are as much as a request may be.
const PIECE: u32 = 256 << 10;
const HEADER: u64 = BUFFERS;
const STATUS: u64 = BUFFERS + 16;
const TABLE: u64 = BUFFERS + 0x1000;
const DATA: u64 = BUFFERS + 0x4000;

/// The status of a request of type `kind` with so many pieces, all of them at the same place.
fn status(kind: u32, pieces: usize) -> u8 {
    let disk = Memory::new(80 << 11).unwrap();
    let mut driver = Driver::new(virtio::mmio(Blk::new(disk, BlkConfig::default())));
    driver.start(driver.offered());
    let memory = driver.memory().clone();
    memory.write_obj([u64::from(kind), 0], GuestAddress(HEADER)).unwrap();
    memory.write_obj(0x77_u8, GuestAddress(STATUS)).unwrap();
    let mut chain = vec![(HEADER, 16, false)];
    chain.extend(std::iter::repeat_n((DATA, PIECE, kind == 0), pieces));
    chain.push((STATUS, 1, true));
    driver.queues.first_mut().unwrap().offer_indirect(TABLE, &chain);
    driver.kick_and_run(0);
    memory.read_obj(GuestAddress(STATUS)).unwrap()
}

#[test]
fn more_than_32_mib_at_once_is_an_error() {
    for kind in [0, 1] {
        assert_eq!((status(kind, 128), status(kind, 129)), (0, 1), "type {kind}");
    }
}
