//! What every virtio device must do.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use purlin_virtio_balloon::{Balloon, BalloonConfig};
use virtio::conformance::{self, Request};

const ALL: BalloonConfig = BalloonConfig {
    deflate_on_oom: true,
    free_page_reporting: true,
    statistics: Some(Duration::from_secs(3600)),
};

fn balloon(config: BalloonConfig) -> Balloon {
    Balloon::new(config).unwrap()
}

#[test]
fn a_plain_balloon_conforms() {
    conformance::device(|| balloon(BalloonConfig::default()));
}

#[test]
fn a_balloon_with_everything_conforms() {
    conformance::device(|| balloon(ALL));
}

#[test]
fn a_balloon_of_some_size_conforms() {
    conformance::device(|| {
        let mut balloon = balloon(BalloonConfig { statistics: None, ..ALL });
        balloon.set_target(12 << 20);
        balloon
    });
}

#[test]
fn inflation_and_deflation_are_answered_with_nothing() {
    // The last pages of the driver's RAM, which hold neither rings nor buffers.
    let pages: Vec<u8> = (0xf0..0x100_u32).flat_map(u32::to_le_bytes).collect();
    for queue in [0, 1] {
        let request = Request { queue, readable: pages.clone(), room: 0, answer: None, len: 0 };
        conformance::serves(|| balloon(ALL), &request);
    }
}
