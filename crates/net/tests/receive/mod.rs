//! Waiting for a packet of a real link.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use purlin_net::Link;

/// How long nothing may come.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The next packet for which `wanted` holds, with its header if the link has one.
pub(crate) fn receive(link: &mut dyn Link, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let end = Instant::now() + LIMIT;
    loop {
        match link.peek() {
            Ok(packet) if wanted(packet) => {
                let packet = packet.to_vec();
                link.pop();
                return packet;
            }
            Ok(_) => link.pop(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                assert!(Instant::now() < end, "nothing within {LIMIT:?}");
                let timeout = PollTimeout::from(100_u8);
                poll(&mut [PollFd::new(link.fd(), PollFlags::POLLIN)], timeout).unwrap();
            }
        }
    }
}
