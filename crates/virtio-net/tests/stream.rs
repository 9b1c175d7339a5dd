//! A card on a stream of bytes, which may take a packet in part, as that of passt.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[expect(dead_code, reason = "other wires are for the other tests")]
mod guest;

use std::{
    io::{ErrorKind, Read},
    os::unix::net::UnixStream,
};

use guest::{OUT, TX, config, frame, plain};
use memory::{Bytes, GuestAddress};
use net::Stream;
use purlin_virtio_net::Net;
use virtio::{conformance::Driver, mmio};

/// More than a socket takes at once.
const LEN: usize = 60_000;

/// A card, and the other end of its wire.
fn card() -> (Driver, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut driver = Driver::new(mmio(Net::new(Stream::new(ours).unwrap(), config()).unwrap()));
    driver.start(driver.offered());
    (driver, theirs)
}

/// Sends a packet of `LEN` bytes: whether it has gone.
fn send(driver: &mut Driver, seed: u8) -> bool {
    driver.memory().write_slice(&plain(&frame(LEN, seed)), GuestAddress(OUT)).unwrap();
    let len = u32::try_from(LEN + 12).unwrap();
    driver.queues[TX].offer(&[(OUT, len, false)]);
    driver.kick_and_run(TX);
    driver.queues[TX].used().len() == 1
}

/// Sends until the wire is full: how many packets were sent, the last of which waits.
fn fill(driver: &mut Driver) -> u8 {
    let mut sent = 0;
    while send(driver, sent) {
        sent += 1;
    }
    sent + 1
}

/// What comes out of the wire while the device works.
fn drain(driver: &mut Driver, wire: &mut UnixStream) -> Vec<u8> {
    let (mut come, mut piece) = (Vec::new(), [0; 10_000]);
    loop {
        match wire.read(&mut piece) {
            Ok(0) => return come,
            Ok(read) => come.extend_from_slice(&piece[..read]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                if driver.turn() == 0 {
                    return come;
                }
            }
        }
    }
}

/// The packets in `come`, which are whole.
fn packets(come: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    let mut rest = come;
    while let Some((prefix, packet)) = rest.split_first_chunk() {
        let len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap();
        packets.push(&packet[..len]);
        rest = &packet[len..];
    }
    packets
}

#[test]
fn what_a_full_wire_took_in_part_arrives_whole_and_once() {
    let (mut driver, mut wire) = card();
    let sent = fill(&mut driver);
    let come = drain(&mut driver, &mut wire);
    assert_eq!(driver.queues[TX].used().len(), 1);
    let come = packets(&come);
    assert_eq!(come.len(), usize::from(sent));
    for (seed, packet) in (0..sent).zip(come) {
        assert!(packet == frame(LEN, seed), "packet {seed}");
    }
}

#[test]
fn a_reset_while_a_packet_has_gone_in_part_costs_the_next_driver_no_packet() {
    let (mut driver, mut wire) = card();
    let sent = fill(&mut driver);
    driver.start(driver.offered());
    let mut come = drain(&mut driver, &mut wire);
    // What was begun is finished before anything else goes.
    assert!(send(&mut driver, 77));
    come.extend(drain(&mut driver, &mut wire));
    let come = packets(&come);
    assert_eq!(come.len(), usize::from(sent) + 1);
    assert!(*come[come.len() - 1] == frame(LEN, 77));
}
