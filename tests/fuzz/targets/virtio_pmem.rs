//! The persistent memory device, over a sparse file without a name.
#![no_main]

use std::fs::{self, File};

use disk::Access;
use memory::{GuestAddress, Ram};
use virtio_pmem::{Image, Pmem, UNIT};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let path = std::env::temp_dir().join(format!("purlin-fuzz-pmem-{}", std::process::id()));
    let pmem = || {
        let file = File::create(&path).expect("there can be a file");
        file.set_len(UNIT).expect("it costs nothing");
        let image = Image::open(&path, Access::ReadWrite).expect("nobody else has it");
        // The next one is another file.
        fs::remove_file(&path).expect("it is ours");
        let range = (GuestAddress(1 << 32), usize::try_from(UNIT).expect("it is small"));
        let backing = image.backing().expect("there can be a descriptor");
        let ram = Ram::new(&[range], backing).expect("there can be a mapping");
        Pmem::new(image, &ram, range.0).expect("it is over a file")
    };
    virtio::conformance::fuzz(pmem, input);
});
