//! Thousands of connections.

use std::io::{Read, Write};

use crate::guest::{CREDIT_UPDATE, Guest, Packet, REQUEST, RESPONSE, RST, RW, SHUTDOWN, pattern};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const EACH: u32 = 1000;
const SERVICE: u32 = 52;
/// Descriptors of both sides, and some.
const DESCRIPTORS: u64 = 5000;

#[test]
fn two_thousand_connections_live_and_end_together() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard >= DESCRIPTORS, "this host allows {hard} descriptors; {DESCRIPTORS} are needed");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(DESCRIPTORS), hard).unwrap();

    let mut guest = Guest::new();
    let listener = guest.listen(SERVICE);
    let mut hosts = Vec::new();
    for from in 0..EACH {
        hosts.push((guest.connect(from, SERVICE, &listener), from, SERVICE));
        let to = 1_000_000 + from;
        let (host, port) = guest.accept(to);
        hosts.push((host.into_inner(), to, port));
    }
    assert_eq!(guest.connections(), 2000);

    for (seed, (host, local, port)) in hosts.iter_mut().enumerate() {
        let sent = pattern(1001, seed);
        guest.send(&Packet::data(RW, *local, *port, &sent));
        let mut got = vec![0; 1001];
        host.read_exact(&mut got).unwrap();
        assert!(got == sent);
    }
    for (seed, (host, ..)) in hosts.iter_mut().enumerate() {
        host.write_all(&pattern(997, seed)).unwrap();
    }
    let mut arrived = 0;
    while arrived < hosts.len() {
        let packet = guest.recv_soon();
        assert_eq!(packet.op, RW, "{packet:?}");
        let seed = hosts.iter().position(|each| each.1 == packet.dst.1).unwrap();
        assert!(packet.data == pattern(997, seed));
        arrived += 1;
        let update = Packet::new(CREDIT_UPDATE, packet.dst.1, packet.src.1);
        guest.send(&Packet { fwd_cnt: 997, ..update });
    }

    drop(hosts);
    while guest.connections() > 0 {
        let packet = guest.recv_soon();
        assert_eq!(packet.op, SHUTDOWN, "{packet:?}");
        if packet.flags == 3 {
            guest.send(&Packet::new(RST, packet.dst.1, packet.src.1));
        }
    }
    guest.expect_nothing();
}

#[test]
fn many_connections_may_each_send_less_ahead() {
    let mut guest = Guest::new();
    let listener = guest.listen(SERVICE);
    let mut hosts = Vec::new();
    let mut room = |from| {
        guest.send(&Packet::new(REQUEST, from, SERVICE));
        let room = guest.expect(RESPONSE, SERVICE, from).buf_alloc;
        hosts.push(listener.accept().unwrap());
        room
    };
    let first: Vec<u32> = (0..256).map(&mut room).collect();
    assert_eq!(first, [256 << 10; 256]);
    assert_eq!([room(256), room(257)], [16 << 10; 2]);
}

#[test]
fn connections_come_and_go_without_end() {
    let mut guest = Guest::new();
    let listener = guest.listen(SERVICE);
    for from in 0..5000 {
        guest.send(&Packet::new(REQUEST, from % 7, SERVICE));
        guest.expect(RESPONSE, SERVICE, from % 7);
        drop(listener.accept().unwrap());
        guest.send(&Packet::new(RST, from % 7, SERVICE));
        while guest.recv().is_some() {}
        assert_eq!(guest.connections(), 0);
    }
}
