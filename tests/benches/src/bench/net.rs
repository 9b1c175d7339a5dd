//! What a network card makes of a tap, beside a bare loop of reads or writes on the same tap: the same
//! packets in batches, in turns. The tap is in a bridge with another, where packets go to and come
//! from. No KVM is needed: the driver is part of this program, on real rings in RAM. All of it is in a
//! network namespace of the measuring thread, which takes root or `unshare -rn`.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    process::Command,
    time::Instant,
};

use ::net::{HEADER, Link, Mac, Offloads, Tap};
use floor::{allocations, packets};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{read, write},
};
use virtio_net::{Net, NetConfig};

use super::{
    FLOOR, PURLIN, PURLIN_TO_FLOOR,
    card::{Card, Direction},
    pinned::pinned,
};
use crate::{error::Result, options::Options, report::Case, rounds::interleave};

/// Samples for each that the user asked for: they are short.
const MORE: usize = 10;
/// At least 0.8 of the packets in a second, and 0.9 of the bytes.
const PACKETS: f64 = 1.0 / 0.8;
const BYTES: f64 = 1.0 / 0.9;

/// Packets of one kind.
struct Kind {
    name: &'static str,
    direction: Direction,
    /// Bytes of a packet without its header.
    len: usize,
    /// Packets of one sample.
    batch: u16,
    limit: f64,
}

const SMALL: usize = 60;
const LARGE: usize = 54 + 44 * 1448;

const KINDS: [Kind; 4] = [
    kind("packets of 60 bytes, sent", Direction::Transmit, SMALL),
    kind("packets of 60 bytes, received", Direction::Receive, SMALL),
    kind("TCP segments of 62 KiB, sent", Direction::Transmit, LARGE),
    kind("TCP segments of 62 KiB, received", Direction::Receive, LARGE),
];

const fn kind(name: &'static str, direction: Direction, len: usize) -> Kind {
    let (batch, limit) = if len == SMALL { (128, PACKETS) } else { (64, BYTES) };
    Kind { name, direction, len, batch, limit }
}

pub(super) fn run(options: &Options) -> Result<Vec<Case>> {
    let rounds = options.samples() * MORE;
    pinned(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("no network namespace: {error}; run this as root"))?;
        // The host must not send packets of its own.
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
        let kinds = KINDS.iter().enumerate();
        kinds.map(|(number, kind)| against_floor(kind, number, rounds)).collect()
    })
}

/// The checksum of IP.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(2).map(|pair| match pair {
        [high, low] => u32::from(*high) << 8 | u32::from(*low),
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX);
    (!folded).to_be_bytes()
}

/// A frame with its header: for nobody, but TCP if it is large.
fn packet(len: usize) -> Vec<u8> {
    let cards = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
    let mut packet = if len > SMALL {
        let [high, low] = u16::try_from(len - 14).unwrap_or(u16::MAX).to_be_bytes();
        let header = [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
        let head = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, 6];
        let addresses = [198, 18, 0, 1, 198, 18, 0, 2];
        // Bridges with a firewall look at the checksum.
        let ip =
            [&head[..], &checksum(&[head.as_slice(), &addresses].concat()), &addresses].concat();
        let tcp = [0, 9, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10];
        [&header[..], &cards, &[8, 0], &ip, &tcp].concat()
    } else {
        [&[0; HEADER][..], &cards, &[0x88, 0xb5]].concat()
    };
    packet.resize(HEADER + len, 0);
    packet
}

fn against_floor(kind: &Kind, number: usize, rounds: usize) -> Result<Case> {
    let tap = Tap::open("bench%d")?;
    let far = bridged(&tap, number)?;
    let bare = tap.fd().try_clone_to_owned()?;
    let (packet, mut room) = (packet(kind.len), vec![0; HEADER + LARGE]);
    let net = Net::new(tap, NetConfig::new(Mac::new([2, 0, 0, 0, 0, 1])?))?;
    let mut card = Card::new(net, kind.direction, &packet)?;
    let places = card.places()?;
    let mut allocated = 0;
    let samples = interleave(rounds, 2, &mut |subject| {
        match kind.direction {
            Direction::Receive => fill(&far, &packet, kind.batch)?,
            Direction::Transmit => while read(&far, &mut room).is_ok() {},
        }
        card.prepare()?;
        let (before, begin) = (allocations(), Instant::now());
        let took = match (subject, kind.direction) {
            (0, _) => card.run(kind.batch)?,
            (_, Direction::Transmit) => {
                packets::send(bare.as_fd(), &places, kind.batch)?;
                begin.elapsed()
            }
            (_, Direction::Receive) => {
                packets::receive(bare.as_fd(), &places, kind.batch)?;
                begin.elapsed()
            }
        };
        if subject == 0 {
            allocated = allocations() - before;
        }
        Ok(took.as_secs_f64() * 1e9 / f64::from(kind.batch))
    })?;
    card.check()?;
    let [purlin, floor] = samples.as_slice() else { return Err("not two subjects".into()) };
    let case = Case::new(kind.name, "ns a packet").row(PURLIN, purlin).row(FLOOR, floor);
    let case = case.ratio(PURLIN_TO_FLOOR, purlin, floor, kind.limit);
    Ok(case.at_most("allocations a packet", allocated as f64 / f64::from(kind.batch), 0.0))
}

/// Writes `count` packets, and does as little else as can be.
fn fill(tap: &OwnedFd, packet: &[u8], count: u16) -> Result<()> {
    (0..count).try_for_each(|_| write(tap, packet).map(drop))?;
    Ok(())
}

/// The far end: a second tap, to which the packets of `tap` go and from which they come, by a bridge
/// with that number.
fn bridged(tap: &Tap, number: usize) -> Result<OwnedFd> {
    let mut far = Tap::open("far%d")?;
    far.set_offloads(Offloads::ALL)?;
    let bridge = format!("bridge{number}");
    // It must not send packets of its own, either.
    ip(&["link", "add", &bridge, "type", "bridge", "mcast_snooping", "0"])?;
    for port in [tap.name(), far.name()] {
        ip(&["link", "set", port, "master", &bridge])?;
    }
    ip(&["link", "set", &bridge, "up"])?;
    Ok(far.fd().try_clone_to_owned()?)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {arguments:?} fails").into()) }
}
