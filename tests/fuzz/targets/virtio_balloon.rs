//! The memory balloon, with everything that it can have.
#![no_main]

use std::time::Duration;

use virtio_balloon::{Balloon, BalloonConfig};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let config = BalloonConfig {
        deflate_on_oom: true,
        free_page_reporting: true,
        statistics: Some(Duration::from_secs(1)),
    };
    let balloon = || {
        let mut balloon = Balloon::new(config).expect("there are timers");
        balloon.set_target(1 << 19);
        balloon
    };
    virtio::conformance::fuzz(balloon, input);
});
