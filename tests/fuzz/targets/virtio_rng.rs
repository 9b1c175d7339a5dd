//! The entropy device.
#![no_main]

use virtio_rng::Rng;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    virtio::conformance::fuzz(|| Rng::new(std::io::repeat(0x5a)), input);
});
