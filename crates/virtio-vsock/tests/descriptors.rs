//! A host that gives no descriptor. A process of its own, because it takes them from all of it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "vsock/guest.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod guest;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use guest::{Guest, Packet, REQUEST, RESPONSE, RW};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How often the device looks whether there is a descriptor, before it gets one.
const TRIES: usize = 4;
/// What that takes at least. It is a second for each but the first.
const PAUSES: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn host_programs_wait_while_there_is_no_descriptor_and_are_accepted_when_there_is() {
    let mut guest = Guest::new();
    let (mut friend, port) = guest.accept(52);
    // The buffer that this leaves with the device stays there: no kick reminds the device below.
    guest.expect_nothing();
    let waiting = [53, 54].map(|to| (to, guest.dial(&format!("CONNECT {to}\n"))));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(next).unwrap(), hard).unwrap();

    let begin = Instant::now();
    let mut tries = 0;
    while tries < TRIES {
        assert!(begin.elapsed() < LIMIT, "it has tried {tries} times, and does no more");
        tries += guest.driver.turn();
        thread::yield_now();
    }
    let took = begin.elapsed();
    assert!(took >= PAUSES, "it does not pause: {tries} times within {took:?}");
    assert_eq!(guest.connections(), 1);

    // Others have their device.
    guest.send(&Packet::data(RW, 52, port, b"from inside"));
    let mut said = [0; 11];
    friend.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"from inside");
    friend.get_mut().write_all(b"from outside").unwrap();
    assert_eq!(guest.expect(RW, port, 52).data, b"from outside");
    guest.expect_nothing();

    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    for (to, stream) in waiting {
        let request = guest.recv_soon();
        assert_eq!((request.op, request.dst.1), (REQUEST, to), "{request:?}");
        guest.send(&Packet::new(RESPONSE, to, request.src.1));
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert_eq!(line, format!("OK {}\n", request.src.1));
    }
}
