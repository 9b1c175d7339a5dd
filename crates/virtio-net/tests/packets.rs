//! Packets in both directions, and what is none.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[expect(dead_code, reason = "commands are for the other tests")]
mod guest;

use guest::{Guest, IN, OUT, RX, TX, config, frame, plain};
use memory::{Bytes, GuestAddress};
use net::{Link, MAX_PACKET};

const CSUM: u64 = 1;
const MRG_RXBUF: u64 = 1 << 15;
const HOST_TSO4: u64 = 1 << 11;

#[test]
fn a_packet_goes_bare_to_a_wire_without_headers_however_it_is_cut() {
    let mut guest = Guest::plain(config(), 0);
    let frame = frame(1514, 1);
    for cut in [7000, 763, 120] {
        assert_eq!(guest.send(&plain(&frame), cut).len(), 1);
        assert_eq!(guest.sent().unwrap(), frame);
    }
    let counters = guest.handle.with(|net| net.counters());
    assert_eq!((counters.transmitted, counters.transmitted_bytes), (3, 3 * 1514));
}

#[test]
fn a_packet_goes_with_its_header_to_a_wire_that_has_them() {
    let mut guest = Guest::with_header(0);
    let mut packet = plain(&frame(9000, 2));
    packet[..12].copy_from_slice(&[1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 7, 7]);
    guest.send(&packet, 1000);
    assert_eq!(guest.sent().unwrap(), packet);
}

#[test]
fn the_smallest_and_the_largest_packet_go_and_others_are_dropped() {
    let mut guest = Guest::plain(config(), 0);
    for len in [14, MAX_PACKET] {
        let frame = frame(len, 3);
        assert_eq!(guest.send(&plain(&frame), 0x8000)[0].1, 0);
        assert_eq!(guest.sent().unwrap(), frame);
    }
    for len in [0, 13, MAX_PACKET + 1, 200_000] {
        assert_eq!(guest.send(&plain(&frame(len, 3)), 0x8000).len(), 1, "{len} bytes");
    }
    assert_eq!(guest.send(&[0; 5], 5).len(), 1);
    // Nothing but room.
    guest.driver.queues[TX].offer(&[(IN, 2000, true)]);
    guest.driver.kick_and_run(TX);
    assert_eq!(guest.driver.queues[TX].used()[0].1, 0);
    assert_eq!(guest.sent(), None);
    assert_eq!(guest.handle.with(|net| net.counters()).transmit_dropped, 6);
}

#[test]
fn work_that_was_not_agreed_on_is_dropped() {
    let csum = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
    let tso4 = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
    let packet = |header: [u8; 12]| [&header[..], &frame(1000, 4)].concat();
    for (mut guest, header, goes) in [
        (Guest::with_header(0), csum, true),
        (Guest::with_header(CSUM), csum, false),
        (Guest::with_header(0), tso4, true),
        (Guest::with_header(HOST_TSO4), tso4, false),
        (Guest::plain(config(), 0), csum, false),
        (Guest::plain(config(), 0), tso4, false),
    ] {
        assert_eq!(guest.send(&packet(header), 5000).len(), 1);
        assert_eq!(guest.sent().is_some(), goes, "{header:?}");
    }
    let mut guest = Guest::with_header(0);
    for kind in [2, 3, 5, 0x7f, 0x80, 0xff] {
        let mut header = tso4;
        header[1] = kind;
        guest.send(&packet(header), 5000);
        assert_eq!(guest.sent(), None, "type {kind}");
    }
    let beyond = [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
    guest.send(&packet(beyond), 5000);
    assert_eq!(guest.sent(), None);
}

#[test]
fn a_packet_for_the_guest_waits_for_room_and_comes_with_a_header() {
    let mut guest = Guest::plain(config(), 0);
    guest.wire.send(&frame(60, 5)).unwrap();
    guest.driver.run();
    assert_eq!(guest.driver.queues[RX].used(), []);
    guest.offer(2, 2048);
    assert_eq!(guest.driver.queues[RX].used(), [(0, 72)]);
    assert_eq!(guest.room(12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(guest.room(72)[12..], frame(60, 5));
    // The second chain waits for the wire.
    guest.wire.send(&frame(61, 6)).unwrap();
    guest.driver.run();
    assert_eq!(guest.driver.queues[RX].used(), [(1, 73)]);
}

#[test]
fn the_header_of_the_wire_is_the_guest_s() {
    let mut guest = Guest::with_header(0);
    let header = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0xff, 0xff];
    guest.wire.send(&[&header[..], &frame(100, 7)].concat()).unwrap();
    guest.offer(1, 2048);
    let room = guest.room(112);
    assert_eq!((&room[..10], &room[10..12]), (&header[..10], &[1, 0][..]));
    assert_eq!(room[12..], frame(100, 7));
}

#[test]
fn a_large_packet_comes_in_several_chains() {
    let mut guest = Guest::plain(config(), 0);
    let frame = frame(5000, 8);
    guest.offer(2, 2000);
    guest.wire.send(&frame).unwrap();
    guest.driver.run();
    assert_eq!(guest.driver.queues[RX].used(), [], "4000 bytes are too few");
    guest.driver.queues[RX].offer(&[(IN + 4000, 2000, true)]);
    guest.driver.kick_and_run(RX);
    assert_eq!(guest.driver.queues[RX].used(), [(0, 2000), (1, 2000), (2, 1012)]);
    let room = guest.room(5012);
    assert_eq!(room[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
    assert!(room[12..] == frame);
}

#[test]
fn a_packet_that_does_not_fit_is_dropped_where_chains_cannot_be_merged() {
    let mut guest = Guest::plain(config(), MRG_RXBUF);
    for len in [1500, 5000, 60] {
        guest.wire.send(&frame(len, 9)).unwrap();
    }
    guest.offer(3, 1512);
    assert_eq!(guest.driver.queues[RX].used(), [(0, 1512), (1, 72)]);
    assert_eq!(guest.handle.with(|net| net.counters()).receive_dropped, 1);
}

#[test]
fn chains_without_room_do_not_hold_up_those_with() {
    let mut guest = Guest::plain(config(), MRG_RXBUF);
    for _ in 0..100 {
        guest.wire.send(&frame(60, 1)).unwrap();
    }
    guest.driver.queues[RX].offer(&[(IN, 11, true)]);
    guest.driver.queues[RX].offer(&[(OUT, 64, false)]);
    guest.driver.queues[RX].offer(&[(IN, 2048, true)]);
    guest.driver.kick_and_run(RX);
    let used: Vec<_> = guest.driver.queues[RX].used().iter().map(|used| used.1).collect();
    // 64 packets for the first, the others for the second, which still has none.
    assert_eq!(used, [0]);
    guest.wire.send(&frame(60, 1)).unwrap();
    guest.driver.reset_queue(RX);
    guest.driver.enable(RX);
    guest.offer(1, 2048);
    assert_eq!(guest.driver.queues[RX].used(), [(0, 72)]);
}

#[test]
fn a_full_wire_makes_the_guest_wait_and_loses_nothing() {
    let mut guest = Guest::plain(config(), 0);
    let mut sent = 0_u8;
    while guest.send(&plain(&frame(1500, sent)), 2000).len() == 1 {
        sent += 1;
    }
    guest.driver.turn();
    assert_eq!(guest.driver.queues[TX].used(), []);
    for seed in 0..=sent {
        assert!(guest.sent().unwrap() == frame(1500, seed), "packet {seed}");
        guest.driver.run();
    }
    assert_eq!(guest.driver.queues[TX].used().len(), 1);
    assert_eq!(guest.sent(), None);
}

#[test]
fn without_its_cable_a_card_drops_everything_and_says_so() {
    let mut guest = Guest::plain(config(), 0);
    assert_eq!(guest.status(), [1, 0]);
    let generation = guest.driver.generation();
    guest.handle.with(|net| net.set_link(false));
    assert_eq!(guest.status(), [0, 0]);
    assert_ne!(guest.driver.generation(), generation);
    assert_eq!(guest.driver.acknowledge() & 2, 2);
    guest.wire.send(&frame(60, 1)).unwrap();
    guest.offer(1, 2048);
    assert_eq!(guest.send(&plain(&frame(60, 1)), 100).len(), 1);
    assert_eq!(guest.sent(), None);
    guest.handle.with(|net| net.set_link(true));
    guest.driver.run();
    assert_eq!((guest.status(), guest.driver.queues[RX].used()), ([1, 0], vec![]));
    guest.wire.send(&frame(60, 2)).unwrap();
    guest.driver.run();
    assert_eq!(guest.driver.queues[RX].used(), [(0, 72)]);
}

#[test]
fn a_peer_that_goes_is_a_link_that_is_down() {
    let Guest { mut driver, wire, .. } = Guest::plain(config(), 0);
    driver.queues[RX].offer(&[(IN, 2048, true)]);
    driver.kick_and_run(RX);
    drop(wire);
    driver.run();
    let mut status = [9; 2];
    driver.read_config(6, &mut status);
    assert_eq!((status, driver.queues[RX].used()), ([0, 0], vec![]));
    assert_eq!(driver.acknowledge() & 2, 2);
    driver.memory().write_slice(&plain(&frame(60, 1)), GuestAddress(OUT)).unwrap();
    driver.queues[TX].offer(&[(OUT, 72, false)]);
    driver.kick_and_run(TX);
    assert_eq!(driver.queues[TX].used(), [(0, 0)]);
}
