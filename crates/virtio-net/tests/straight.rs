//! Large packets, which go from the wire straight into the guest's buffers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[expect(dead_code, reason = "commands and what is sent are for the other tests")]
mod guest;

use std::num::NonZeroU64;

use guest::{Guest, IN, RX, frame, plain};
use memory::{Bytes, GuestAddress};
use net::Link;
use rate::Rates;

const MRG_RXBUF: u64 = 1 << 15;
/// Bytes of a chain.
const CHAIN: u32 = 4096;

/// A guest, and where its next chain is.
struct Host {
    guest: Guest,
    offered: u32,
    taken: u32,
}

impl Host {
    /// A guest whose card expects large packets, because one has come.
    fn new(not: u64) -> Self {
        let mut host = Self { guest: Guest::with_header(not), offered: 0, taken: 0 };
        if not & MRG_RXBUF == 0 {
            host.offer(3);
            host.send(&frame(9000, 1));
            assert!(host.received() == [(3, frame(9000, 1))]);
        }
        host
    }

    fn place(chain: u32) -> GuestAddress {
        GuestAddress(IN + u64::from(chain % 64 * CHAIN))
    }

    /// Offers `count` chains.
    fn offer(&mut self, count: u32) {
        let mut wants_kick = false;
        for _ in 0..count {
            let chain = (Self::place(self.offered).0, CHAIN, true);
            self.guest.driver.queues[RX].offer(&[chain]);
            self.offered += 1;
            wants_kick |= self.guest.driver.queues[RX].wants_kick();
        }
        if wants_kick {
            self.guest.driver.kick_and_run(RX);
        }
    }

    fn send(&mut self, frame: &[u8]) {
        self.guest.wire.send(&plain(frame)).unwrap();
        self.guest.driver.run();
    }

    /// The packets that have come: in how many chains each, and its bytes.
    fn received(&mut self) -> Vec<(u16, Vec<u8>)> {
        let (mut packets, mut left) = (Vec::new(), 0);
        for (_, len) in self.guest.driver.queues[RX].used() {
            let mut bytes = vec![0; usize::try_from(len).unwrap()];
            self.guest.driver.memory().read_slice(&mut bytes, Self::place(self.taken)).unwrap();
            self.taken += 1;
            if left == 0 {
                left = u16::from_le_bytes([bytes[10], bytes[11]]);
                assert!(bytes[..10] == [0; 10], "a header");
                packets.push((left, bytes[12..].to_vec()));
            } else {
                packets.last_mut().unwrap().1.extend(bytes);
            }
            left -= 1;
        }
        assert_eq!(left, 0, "chains are missing");
        packets
    }
}

#[test]
fn packets_of_all_sizes_come_whole_and_in_their_order() {
    let mut host = Host::new(0);
    let chains = |size: usize| u16::try_from((12 + size).div_ceil(4096)).unwrap();
    let groups = [
        &[9000, 60, 14][..],
        &[40_000, 4084, 4085],
        &[60_000],
        &[1500, 53_000, 60],
        &[60, 60, 60, 60, 60, 60, 60, 60, 60, 60],
        &[30_000, 30_000],
    ];
    for (seed, sizes) in (0..).zip(groups) {
        let needed: u16 = sizes.iter().map(|size| chains(*size)).sum();
        host.offer(needed.into());
        sizes.iter().for_each(|size| host.guest.wire.send(&plain(&frame(*size, seed))).unwrap());
        host.guest.driver.run();
        let expected: Vec<_> =
            sizes.iter().map(|size| (chains(*size), frame(*size, seed))).collect();
        assert!(host.received() == expected, "{sizes:?}");
    }
    let counters = host.guest.handle.with(|net| net.counters());
    assert_eq!((counters.received, counters.receive_dropped), (23, 0));
}

#[test]
fn a_packet_that_finds_too_little_room_waits_and_comes_whole() {
    for chains in [1, 2, 4] {
        let mut host = Host::new(0);
        host.offer(chains);
        host.send(&frame(20_000, 2));
        host.send(&frame(100, 3));
        assert!(host.received().is_empty());
        host.offer(5);
        let all = host.received();
        assert!(all[0] == (5, frame(20_000, 2)));
        assert_eq!(all.len() > 1, chains > 0);
        assert!(all[1] == (1, frame(100, 3)));
    }
}

#[test]
fn a_small_packet_needs_no_more_than_one_chain() {
    let mut host = Host::new(0);
    host.offer(1);
    host.send(&frame(1500, 4));
    assert!(host.received() == [(1, frame(1500, 4))]);
    // The next one finds none at all, and comes as soon as there is one.
    host.send(&frame(1400, 5));
    host.offer(1);
    assert!(host.received() == [(1, frame(1400, 5))]);
}

#[test]
fn a_reset_forgets_a_packet_that_waits() {
    let mut host = Host::new(0);
    host.offer(1);
    host.send(&frame(20_000, 6));
    let features = host.guest.driver.offered();
    host.guest.driver.reset();
    host.guest.driver.start(features);
    (host.offered, host.taken) = (0, 0);
    host.offer(8);
    host.send(&frame(60, 7));
    assert_eq!(host.received(), [(1, frame(60, 7))]);
}

#[test]
fn a_limit_that_comes_and_goes_keeps_the_order() {
    let mut host = Host::new(0);
    let one = Rates { ops: Some(rate::Rate::new(NonZeroU64::MIN)), ..Rates::default() };
    host.guest.handle.with(|net| net.set_rates(one, Rates::default()));
    host.offer(16);
    for seed in 10..14 {
        host.send(&frame(9000, seed));
    }
    host.guest.handle.with(|net| net.set_rates(Rates::default(), Rates::default()));
    host.guest.driver.run();
    let expected: Vec<_> = (10..14).map(|seed| (3, frame(9000, seed))).collect();
    assert!(host.received() == expected);
}

#[test]
fn the_end_of_the_wire_takes_no_chains_and_shows_as_a_link_that_is_down() {
    let mut host = Host::new(0);
    host.offer(4);
    let (_, other) = net::Datagram::pair().unwrap();
    drop(std::mem::replace(&mut host.guest.wire, other));
    host.guest.driver.run();
    assert!(host.received().is_empty());
    assert_eq!(host.guest.status(), [0, 0]);
}

#[test]
fn chains_that_cannot_be_merged_take_what_fits_and_the_rest_is_dropped() {
    let mut host = Host::new(MRG_RXBUF);
    for index in 0..4 {
        let chain = (IN + index * 0x1_1000, 0x1_1000, true);
        host.guest.driver.queues[RX].offer(&[chain]);
    }
    host.guest.driver.kick_and_run(RX);
    for seed in 0..2 {
        host.send(&frame(60_000, seed));
        let used = host.guest.driver.queues[RX].used();
        assert_eq!((used.len(), used[0].1), (1, 60_012));
        let mut bytes = vec![0; 60_012];
        let at = GuestAddress(IN + u64::from(seed) * 0x1_1000);
        host.guest.driver.memory().read_slice(&mut bytes, at).unwrap();
        assert!(bytes[12..] == frame(60_000, seed) && bytes[10] == 1);
    }
}
