//! The block device, over a disk in memory.
#![no_main]

use disk::Memory;
use virtio_blk::{Blk, BlkConfig};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let disk = || Memory::new(128).expect("64 KiB can be had");
    virtio::conformance::fuzz(|| Blk::new(disk(), BlkConfig::default()), input);
});
