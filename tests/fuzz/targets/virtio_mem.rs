//! The memory device, over a region of 256 small blocks.
#![no_main]

use memory::{Backing, GuestAddress, Ram};
use virtio_mem::{Mem, MemConfig};

const BLOCK: u64 = 4096;
/// Where a request with small numbers in it can hit.
const START: GuestAddress = GuestAddress(0x10_0000);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mem = || {
        let ram = Ram::new(&[(START, 256 << 12)], Backing::Anonymous).expect("1 MiB can be had");
        let config = MemConfig { block: BLOCK, ..MemConfig::new(START, 256 * BLOCK) };
        let mut mem = Mem::new(ram.memory(), config).expect("the region is in RAM");
        mem.set_requested(128 * BLOCK).expect("half of it is whole blocks");
        mem
    };
    virtio::conformance::fuzz(mem, input);
});
