//! A card on a real tap of the host, where this process may make one: packets without a copy, several
//! queues.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking and says what it skips"
)]

#[expect(dead_code, reason = "the wires are for the other tests")]
mod guest;

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use guest::{IN, MAC, OUT, RX, TX, config};
use memory::{Bytes, GuestAddress};
use net::{HEADER, Link, Tap, TapError};
use purlin_virtio_net::Net;
use virtio::{Handle, conformance::Driver, mmio};

const LIMIT: Duration = Duration::from_secs(20);

/// A card on a tap with an address of the host; `None` where there can be none.
fn card(test: &str, pairs: usize, net: u8) -> Option<(Driver, Handle<Net>, UdpSocket)> {
    let taps = match Tap::open_queues("purlin%d", pairs) {
        Ok(taps) => taps,
        Err(error @ (TapError::Device(_) | TapError::Permission(_))) => {
            assert!(std::env::var_os("REQUIRE_TAP").is_none(), "{test}: {error}");
            eprintln!("SKIPPED {test}: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let name = taps[0].name().to_owned();
    ip(&format!("addr add 198.18.{net}.1/24 dev {name}"));
    let [a, b, c, d, e, f] = MAC;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    ip(&format!("neigh replace 198.18.{net}.2 lladdr {mac} nud permanent dev {name}"));
    let links = taps.into_iter().map(|tap| Box::new(tap) as Box<dyn Link>).collect();
    let (mut driver, handle) = Driver::with_handle(mmio(Net::with_pairs(links, config()).unwrap()));
    driver.start(driver.offered());
    let socket = UdpSocket::bind((Ipv4Addr::new(198, 18, net, 1), 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    Some((driver, handle, socket))
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

/// The next packet of UDP that the guest gets in queue number `rx`, with its header.
fn receive(driver: &mut Driver, rx: usize) -> Vec<u8> {
    let end = Instant::now() + LIMIT;
    loop {
        driver.queues[rx].offer(&[(IN, 2048, true)]);
        driver.kick_and_run(rx);
        let len = loop {
            if let Some((_, len)) = driver.queues[rx].used().pop() {
                break usize::try_from(len).unwrap();
            }
            assert!(Instant::now() < end, "nothing within {LIMIT:?}");
            driver.run();
        };
        let mut packet = vec![0; len];
        driver.memory().read_slice(&mut packet, GuestAddress(IN)).unwrap();
        if len > HEADER + 42 && packet[HEADER + 12..HEADER + 14] == [8, 0] {
            return packet;
        }
    }
}

/// The answer to `packet`: the same, back. UDP has its checksum in half done, and it is symmetric.
fn answer(packet: &[u8]) -> Vec<u8> {
    let mut answer = packet.to_vec();
    for (to, from, len) in
        [(0, 6, 6), (6, 0, 6), (26, 30, 4), (30, 26, 4), (34, 36, 2), (36, 34, 2)]
    {
        let from = packet[HEADER + from..HEADER + from + len].to_vec();
        answer[HEADER + to..HEADER + to + len].copy_from_slice(&from);
    }
    answer
}

#[test]
fn packets_go_both_ways_with_checksums_left_to_the_other_end() {
    let test = "packets_go_both_ways_with_checksums_left_to_the_other_end";
    let Some((mut driver, handle, socket)) = card(test, 1, 201) else { return };
    socket.send_to(b"to the guest", "198.18.201.2:4000").unwrap();
    let packet = receive(&mut driver, RX);
    assert_eq!(packet[0] & 1, 1, "the checksum is left to the guest");
    assert_eq!(packet[10..12], [1, 0]);
    assert_eq!(&packet[HEADER + 42..], b"to the guest");

    driver.memory().write_slice(&answer(&packet), GuestAddress(OUT)).unwrap();
    let len = u32::try_from(packet.len()).unwrap();
    driver.queues[TX].offer(&[
        (OUT, 12, false),
        (OUT + 12, 42, false),
        (OUT + 54, len - 54, false),
    ]);
    driver.kick_and_run(TX);
    assert_eq!(driver.queues[TX].used().len(), 1);
    let mut come = [0; 64];
    let (len, from) = socket.recv_from(&mut come).unwrap();
    assert_eq!((&come[..len], from.port()), (&b"to the guest"[..], 4000));
    assert_eq!(handle.with(|net| net.counters()).transmit_dropped, 0);
}

#[test]
fn what_the_host_refuses_is_dropped_and_the_card_goes_on() {
    let test = "what_the_host_refuses_is_dropped_and_the_card_goes_on";
    let Some((mut driver, handle, _socket)) = card(test, 1, 202) else { return };
    // Cut into segments, but nothing that can be.
    let header = [1, 1, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0];
    driver.memory().write_slice(&header, GuestAddress(OUT)).unwrap();
    driver.memory().write_slice(&[0xff; 60], GuestAddress(OUT + 12)).unwrap();
    for _ in 0..3 {
        driver.queues[TX].offer(&[(OUT, 72, false)]);
        driver.kick_and_run(TX);
        assert_eq!(driver.queues[TX].used().len(), 1);
    }
    assert_eq!(handle.with(|net| net.counters()).transmit_dropped, 3);
    assert!(handle.with(|net| net.is_up()));
}

#[test]
fn a_queue_at_rest_gets_no_packets_and_one_in_use_does() {
    let test = "a_queue_at_rest_gets_no_packets_and_one_in_use_does";
    let Some((mut driver, _handle, socket)) = card(test, 2, 203) else { return };
    for port in 4000..4032 {
        socket.send_to(b"to the first pair", ("198.18.203.2", port)).unwrap();
    }
    for _ in 0..32 {
        assert_eq!(&receive(&mut driver, RX)[HEADER + 42..], b"to the first pair");
    }
    let control = 4;
    assert_eq!(guest::command(&mut driver, control, &[4, 0, 2, 0]), (1, 0));
    // The host chooses by what the packet says: some go to the second pair.
    for port in 4000..4064 {
        socket.send_to(b"to either", ("198.18.203.2", port)).unwrap();
    }
    assert_eq!(&receive(&mut driver, 2)[HEADER + 42..], b"to either");
}
