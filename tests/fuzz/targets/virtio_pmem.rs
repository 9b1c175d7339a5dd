//! The persistent memory device, over a sparse file without a name.
#![no_main]

use std::fs::{self, File};

use disk::Access;
use memory::GuestAddress;
use virtio_pmem::{Image, Pmem, UNIT};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let path = std::env::temp_dir().join(format!("purlin-fuzz-pmem-{}", std::process::id()));
    let pmem = || {
        let file = File::create(&path).expect("there can be a file");
        file.set_len(UNIT).expect("it costs nothing");
        let image = Image::open(&path, Access::ReadWrite).expect("nobody else has it");
        // The next one is another file.
        fs::remove_file(&path).expect("it is ours");
        Pmem::new(image, GuestAddress(1 << 32))
    };
    virtio::conformance::fuzz(pmem, input);
});
