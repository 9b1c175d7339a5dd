//! Real taps of the host, where this process may make them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking and says what it skips"
)]

mod receive;

use std::{
    env, fs,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, RawFd},
    process::Command,
    time::Instant,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use purlin_net::{HEADER, Link, Offloads, Tap, TapError};
use receive::{LIMIT, receive};

/// A fresh tap with `count` queues; `None` where there can be none.
fn taps(test: &str, count: usize) -> Option<Vec<Tap>> {
    match Tap::open_queues("purlin%d", count) {
        Ok(taps) => Some(taps),
        Err(error @ (TapError::Device(_) | TapError::Permission(_))) => {
            assert!(env::var_os("REQUIRE_TAP").is_none(), "{test}: {error}");
            eprintln!("SKIPPED {test}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn tap(test: &str) -> Option<Tap> {
    taps(test, 1)?.pop()
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

fn is_broadcast_udp(packet: &[u8]) -> bool {
    packet.len() > HEADER + 42
        && packet[HEADER + 12..HEADER + 14] == [8, 0]
        && packet[HEADER + 23] == 17
}

#[test]
fn a_packet_of_the_host_comes_with_a_header_and_an_answer_goes() {
    let Some(mut tap) = tap("a_packet_of_the_host_comes_with_a_header_and_an_answer_goes") else {
        return;
    };
    assert!(tap.name().starts_with("purlin") && !tap.name().contains('%'), "{}", tap.name());
    let octet = u8::try_from(std::process::id() % 200).unwrap() + 20;
    ip(&format!("addr add 198.18.{octet}.1/24 dev {}", tap.name()));
    let peer = Ipv4Addr::new(198, 18, octet, 2);
    let neighbour = "lladdr 02:00:00:00:00:02 nud permanent";
    ip(&format!("neigh replace {peer} {neighbour} dev {}", tap.name()));
    let socket = UdpSocket::bind((Ipv4Addr::new(198, 18, octet, 1), 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(b"to the guest", (peer, 4000)).unwrap();

    let packet = receive(&mut tap, is_broadcast_udp);
    assert_eq!(packet[..10], [0; 10], "checksums are complete without offloads");
    assert_eq!(&packet[HEADER + 42..], b"to the guest");

    // The same with everything swapped, and no checksum.
    let mut answer = packet.clone();
    answer[HEADER..HEADER + 6].copy_from_slice(&packet[HEADER + 6..HEADER + 12]);
    answer[HEADER + 6..HEADER + 12].copy_from_slice(&packet[HEADER..HEADER + 6]);
    answer[HEADER + 26..HEADER + 30].copy_from_slice(&packet[HEADER + 30..HEADER + 34]);
    answer[HEADER + 30..HEADER + 34].copy_from_slice(&packet[HEADER + 26..HEADER + 30]);
    answer[HEADER + 34..HEADER + 36].copy_from_slice(&packet[HEADER + 36..HEADER + 38]);
    answer[HEADER + 36..HEADER + 38].copy_from_slice(&packet[HEADER + 34..HEADER + 36]);
    answer[HEADER + 40..HEADER + 42].fill(0);
    tap.send(&answer).unwrap();
    let mut come = [0; 64];
    let (len, from) = socket.recv_from(&mut come).unwrap();
    assert_eq!((&come[..len], from.port()), (&b"to the guest"[..], 4000));

    tap.set_offloads(Offloads::ALL).unwrap();
    socket.send_to(b"to the guest", (peer, 4000)).unwrap();
    let packet = receive(&mut tap, is_broadcast_udp);
    assert_eq!(packet[0] & 1, 1, "the checksum is left to us");
}

#[test]
fn headers_that_make_no_sense_are_refused_by_the_host() {
    let Some(mut tap) = tap("headers_that_make_no_sense_are_refused_by_the_host") else { return };
    for header in [
        [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 77, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert!(tap.send(&[&header[..], &[0; 60]].concat()).is_err(), "{header:?}");
    }
    assert!(tap.send(&[0; HEADER + 13]).is_err());
    assert!(tap.is_up());
    tap.send(&[0; HEADER + 60]).unwrap();
}

#[test]
fn several_queues_are_of_one_tap_and_can_rest() {
    let Some(mut taps) = taps("several_queues_are_of_one_tap_and_can_rest", 3) else { return };
    let names: Vec<_> = taps.iter().map(|tap| tap.name().to_owned()).collect();
    assert!(names.iter().all(|name| *name == names[0]));
    for active in [false, false, true, true] {
        taps[2].set_active(active).unwrap();
    }
    assert!(matches!(Tap::open_queues("purlin%d", 0), Err(TapError::Count(0))));
    assert!(matches!(Tap::open_queues("purlin%d", 257), Err(TapError::Count(257))));
}

#[test]
fn a_deleted_tap_is_down() {
    let Some(mut tap) = tap("a_deleted_tap_is_down") else { return };
    ip(&format!("link del {}", tap.name()));
    let end = Instant::now() + LIMIT;
    while tap.is_up() {
        assert!(Instant::now() < end);
        tap.peek().map(drop).unwrap_or(());
        tap.pop();
    }
    assert!(tap.send(&[0; HEADER + 60]).is_err());
}

#[test]
fn a_tap_in_use_an_unfit_one_and_another_interface_are_refused_by_name() {
    let Some(tap) = tap("a_tap_in_use_an_unfit_one_and_another_interface") else { return };
    let name = tap.name();
    let refused = |name: &str, count| Tap::open_queues(name, count).unwrap_err();
    assert!(matches!(refused(name, 1), TapError::Busy(_)), "{:?}", refused(name, 1));
    let error = refused(name, 2).to_string();
    assert!(error.contains("multi_queue") && error.contains(name), "{error}");
    let error = refused("lo", 1);
    assert!(matches!(error, TapError::Kind(_)), "{error:?}");
    assert!(error.to_string().contains("`lo` is no tap"), "{error}");
}

#[test]
fn a_tap_made_for_several_queues_serves_with_one() {
    if taps("a_tap_made_for_several_queues_serves_with_one", 1).is_none() {
        return;
    }
    let name = format!("pmq{}", std::process::id() % 1_000_000);
    ip(&format!("tuntap add {name} mode tap multi_queue"));
    let opened = Tap::open(&name);
    ip(&format!("tuntap del {name} mode tap multi_queue"));
    assert_eq!(opened.unwrap().name(), name);
}

#[test]
fn names_that_no_tap_has_are_refused() {
    for name in ["", "sixteen-letters-", "a b", "a/b", "é"] {
        assert!(matches!(Tap::open(name), Err(TapError::Name(_))), "{name:?}");
    }
}

fn assert_is_no_tap(fd: RawFd) {
    let error = Tap::from_fd(fd).unwrap_err();
    assert!(matches!(error, TapError::Descriptor { fd: told, .. } if told == fd), "{error:?}");
    let told = error.to_string();
    assert!(told.starts_with(&format!("descriptor {fd} is no tap")), "{told}");
}

#[test]
fn an_inherited_descriptor_that_is_no_tap_is_refused_by_its_number() {
    assert_is_no_tap(fs::File::open("/dev/null").unwrap().as_raw_fd());
    assert_is_no_tap(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().as_raw_fd());
    // Nothing is open there.
    assert_is_no_tap(-1);
    assert_is_no_tap(1 << 20);
    let test = "an_inherited_descriptor_that_is_no_tap_is_refused_by_its_number";
    if tap(test).is_some() {
        // It is no interface yet.
        let unattached = fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        assert_is_no_tap(unattached.as_raw_fd());
    }
}

#[test]
fn an_inherited_tap_is_taken_by_its_number() {
    let Some(tap) = tap("an_inherited_tap_is_taken_by_its_number") else { return };
    // As it is if who opened it did not think of that.
    let flags = || OFlag::from_bits_retain(fcntl(tap.fd(), FcntlArg::F_GETFL).unwrap());
    fcntl(tap.fd(), FcntlArg::F_SETFL(flags() - OFlag::O_NONBLOCK)).unwrap();
    let mut own = Tap::from_fd(tap.as_raw_fd()).unwrap();
    assert!(flags().contains(OFlag::O_NONBLOCK), "nobody would serve the guest while it waits");
    assert_eq!(own.name(), tap.name());
    assert!(own.abilities().header);
    drop(tap);
    own.send(&[0; HEADER + 60]).unwrap();
}
