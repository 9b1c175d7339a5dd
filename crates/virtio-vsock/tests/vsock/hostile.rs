//! Packets that no driver sends.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use crate::guest::{
    CREDIT_REQUEST, CREDIT_UPDATE, Guest, HOST, Packet, REQUEST, RESPONSE, RST, RW, SHUTDOWN,
};
use memory::{Bytes, GuestAddress};
use virtio::conformance::BUFFERS;

const PORT: u32 = 1000;
const SERVICE: u32 = 52;

fn connected() -> (Guest, UnixStream) {
    let mut guest = Guest::new();
    let listener = guest.listen(SERVICE);
    let host = guest.connect(PORT, SERVICE, &listener);
    (guest, host)
}

/// The connection still works.
fn check(guest: &mut Guest, host: &mut UnixStream) {
    guest.send(&Packet::data(RW, PORT, SERVICE, b"still"));
    let mut said = [0; 5];
    host.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"still");
    guest.expect_nothing();
    assert_eq!(guest.connections(), 1);
}

#[test]
fn a_packet_from_another_address_is_dropped() {
    let (mut guest, mut host) = connected();
    for cid in [0, 1, HOST, 4, 3 | 1 << 32, u64::MAX] {
        for op in [REQUEST, RST, RW, SHUTDOWN] {
            let packet = Packet { flags: 3, ..Packet::data(op, PORT, SERVICE, b"spoof") };
            guest.send(&Packet { src: (cid, PORT), ..packet });
            guest.expect_nothing();
        }
    }
    check(&mut guest, &mut host);
}

#[test]
fn a_packet_to_another_address_is_reset() {
    let (mut guest, mut host) = connected();
    for cid in [0, 1, 3, 4, HOST | 1 << 32, u64::MAX] {
        guest.send(&Packet { dst: (cid, SERVICE), ..Packet::new(REQUEST, PORT, SERVICE) });
        let reset = guest.expect(RST, SERVICE, PORT);
        assert_eq!(reset.src.0, cid);
    }
    check(&mut guest, &mut host);
}

#[test]
fn a_socket_type_that_is_not_there_is_reset() {
    let (mut guest, mut host) = connected();
    for kind in [0, 2, u16::MAX] {
        guest.send(&Packet { kind, ..Packet::data(RW, PORT, SERVICE, b"no stream") });
        assert_eq!(guest.expect(RST, SERVICE, PORT).kind, kind);
        guest.send(&Packet { kind, ..Packet::new(RST, PORT, SERVICE) });
        guest.expect_nothing();
    }
    check(&mut guest, &mut host);
}

#[test]
fn a_packet_of_no_connection_is_reset_but_a_reset() {
    let mut guest = Guest::new();
    for op in [0, RESPONSE, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, 8, u16::MAX] {
        guest.send(&Packet { flags: u32::MAX, ..Packet::data(op, PORT, SERVICE, b"x") });
        guest.expect(RST, SERVICE, PORT);
    }
    guest.send(&Packet::new(RST, PORT, SERVICE));
    guest.expect_nothing();
    assert_eq!(guest.connections(), 0);
}

#[test]
fn what_makes_no_sense_on_a_connection_ends_it() {
    for op in [0, REQUEST, RESPONSE, 8, u16::MAX] {
        let (mut guest, mut host) = connected();
        guest.send(&Packet::data(op, PORT, SERVICE, b"x"));
        guest.expect(RST, SERVICE, PORT);
        assert_eq!(host.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(guest.connections(), 0);
        guest.expect_nothing();
    }
}

#[test]
fn an_answer_that_nobody_waits_for_ends_the_connection() {
    let mut guest = Guest::new();
    let _host = guest.dial("CONNECT 52\n");
    let port = guest.recv_soon().src.1;
    guest.send(&Packet::data(RW, 52, port, b"not yet"));
    guest.expect(RST, port, 52);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn an_answer_to_what_was_not_asked_yet_ends_the_connection() {
    let mut guest = Guest::new();
    let mut host = guest.dial("CONNECT 52\n");
    guest.driver.run();
    // The guest can know the port beforehand.
    let port = 1 << 30;
    assert_eq!(guest.connections(), 1);
    guest.send(&Packet::new(RESPONSE, 52, port));
    guest.expect(RST, port, 52);
    assert_eq!(host.read(&mut [0; 1]).unwrap(), 0, "it hears nothing of an acceptance");
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_length_beyond_the_chain_ends_the_connection_and_sends_nothing() {
    for len in [6, 0x1_0000, u32::MAX] {
        let (mut guest, mut host) = connected();
        guest.send(&Packet { len: Some(len), ..Packet::data(RW, PORT, SERVICE, b"short") });
        guest.expect(RST, SERVICE, PORT);
        assert_eq!(host.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn a_length_below_the_chain_counts() {
    let (mut guest, mut host) = connected();
    guest.send(&Packet { len: Some(2), ..Packet::data(RW, PORT, SERVICE, b"abcdef") });
    guest.send(&Packet { len: Some(0), ..Packet::data(RW, PORT, SERVICE, b"abcdef") });
    guest.send(&Packet::data(CREDIT_UPDATE, PORT, SERVICE, b"not data"));
    let mut said = [0; 2];
    host.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"ab");
    check(&mut guest, &mut host);
}

#[test]
fn data_after_the_end_of_data_ends_the_connection() {
    let (mut guest, mut host) = connected();
    guest.send(&Packet { flags: 2, ..Packet::new(SHUTDOWN, PORT, SERVICE) });
    guest.send(&Packet::data(RW, PORT, SERVICE, b"x"));
    guest.expect(RST, SERVICE, PORT);
    assert_eq!(host.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn flags_that_are_none_end_nothing() {
    let (mut guest, mut host) = connected();
    guest.send(&Packet { flags: !3, ..Packet::new(SHUTDOWN, PORT, SERVICE) });
    check(&mut guest, &mut host);
}

#[test]
fn short_packets_and_buffers_come_back_empty() {
    let mut guest = Guest::new();
    guest.driver.memory().write_slice(&[1; 64], GuestAddress(BUFFERS)).unwrap();
    for len in [1, 43] {
        let head = guest.driver.queues[1].offer(&[(BUFFERS, len, false)]);
        guest.driver.kick_and_run(1);
        assert_eq!(guest.driver.queues[1].used(), [(head.into(), 0)]);
    }
    let head = guest.driver.queues[1].offer(&[(BUFFERS, 64, true)]);
    guest.driver.kick_and_run(1);
    assert_eq!(guest.driver.queues[1].used(), [(head.into(), 0)]);
    for (len, write) in [(43, true), (44, true), (64, false)] {
        let head = guest.driver.queues[0].offer(&[(BUFFERS, len, write)]);
        guest.driver.kick_and_run(0);
        assert_eq!(guest.driver.queues[0].used(), [(head.into(), 0)]);
    }
    assert!(!guest.driver.is_broken());
}

#[test]
fn a_flood_of_nonsense_stalls_its_sender_and_nobody_else() {
    let (mut guest, mut host) = connected();
    let nonsense = Packet::data(RW, PORT + 1, SERVICE, b"x");
    let mut taken = 0;
    // No packet is taken back meanwhile.
    while guest.offer(&nonsense) {
        taken += 1;
        assert!(taken < 1000, "resets are queued without bound");
    }
    host.write_all(b"hello").unwrap();
    // What waits goes on as resets are taken, and the connection has every second turn.
    let first = [guest.recv_soon(), guest.recv_soon()];
    assert!(first.iter().any(|packet| packet.data == b"hello"), "{first:?}");
    let resets = (0..taken).map(|_| guest.expect(RST, SERVICE, PORT + 1)).count();
    assert_eq!(resets, taken);
    guest.expect_nothing();
    assert_eq!(guest.driver.queues[1].used().len(), 1);
    check(&mut guest, &mut host);
}

#[test]
fn a_reset_of_the_device_forgets_what_was_to_be_refused() {
    let mut guest = Guest::new();
    assert!(guest.offer(&Packet::data(RW, PORT, SERVICE, b"x")));
    guest.driver.start(guest.driver.offered());
    guest.expect_nothing();
}

#[test]
fn a_flood_of_requests_is_bounded() {
    let config = purlin_virtio_vsock::VsockConfig { connections: 10, ..Default::default() };
    let mut guest = Guest::with(config);
    let listener = guest.listen(SERVICE);
    listener.set_nonblocking(true).unwrap();
    let mut hosts = Vec::new();
    let (mut accepted, mut refused) = (0, 0);
    for port in 0..500 {
        guest.send(&Packet::new(REQUEST, port, SERVICE));
        hosts.extend(listener.accept().map(|(host, _)| host).ok());
        match guest.recv_soon().op {
            RESPONSE => accepted += 1,
            RST => refused += 1,
            op => panic!("{op}"),
        }
    }
    assert_eq!((accepted, refused, guest.connections()), (10, 490, 10));
}

#[test]
fn the_same_request_twice_ends_the_first() {
    let (mut guest, mut host) = connected();
    guest.send(&Packet::new(REQUEST, PORT, SERVICE));
    guest.expect(RST, SERVICE, PORT);
    assert_eq!(host.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(guest.connections(), 0);
}
