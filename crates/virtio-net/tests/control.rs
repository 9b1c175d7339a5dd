//! Commands, several pairs of queues, and what the links are told.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[expect(dead_code, reason = "most of it is for packets")]
mod guest;

use std::{
    io,
    num::NonZeroU64,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use guest::{CONTROL, Guest, IN, MAC, config, frame, plain};
use memory::{Bytes, GuestAddress};
use net::{Abilities, Datagram, Link, Offloads};
use purlin_virtio_net::{Net, NetConfig};
use rate::{Rate, Rates};
use virtio::{conformance::Driver, mmio};

const GUEST_CSUM: u64 = 1 << 1;
const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
const GUEST_TSO4: u64 = 1 << 7;
const CTRL_VQ: u64 = 1 << 17;
const CTRL_RX: u64 = 1 << 18;
const MQ: u64 = 1 << 22;
const CTRL_MAC_ADDR: u64 = 1 << 23;

const OK: (u32, u8) = (1, 0);
const ERR: (u32, u8) = (1, 1);

/// What a link was told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    offloads: Offloads,
    active: bool,
}

/// A wire whose owner hears what it is told.
struct Probe(Datagram, Arc<Mutex<Told>>);

impl Link for Probe {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    fn abilities(&self) -> Abilities {
        self.0.abilities()
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        self.1.lock().unwrap().offloads = offloads;
        Ok(())
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        self.1.lock().unwrap().active = active;
        Ok(())
    }

    fn peek(&mut self) -> io::Result<&[u8]> {
        self.0.peek()
    }

    fn pop(&mut self) {
        self.0.pop();
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet)
    }

    fn is_up(&self) -> bool {
        true
    }
}

/// A card with `count` pairs of queues, its driver, and the other ends.
struct Pairs {
    driver: Driver,
    wires: Vec<Datagram>,
    told: Vec<Arc<Mutex<Told>>>,
}

impl Pairs {
    fn new(count: usize, not: u64) -> Self {
        let (mut links, mut wires, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let (ours, wire) = Datagram::pair_with_header().unwrap();
            let heard = Arc::new(Mutex::new(Told::default()));
            links.push(Box::new(Probe(ours, Arc::clone(&heard))) as Box<dyn Link>);
            wires.push(wire);
            told.push(heard);
        }
        let mut driver = Driver::new(mmio(Net::with_pairs(links, config()).unwrap()));
        driver.start(driver.offered() & !not);
        Self { driver, wires, told }
    }

    fn active(&self) -> Vec<bool> {
        self.told.iter().map(|told| told.lock().unwrap().active).collect()
    }

    fn offloads(&self) -> Offloads {
        self.told[0].lock().unwrap().offloads
    }

    fn command(&mut self, queue: usize, command: &[u8]) -> (u32, u8) {
        // The same as a guest's, on another driver.
        guest::command(&mut self.driver, queue, command)
    }
}

#[test]
fn the_guest_sets_its_address_and_a_reset_takes_it_back() {
    let mut guest = Guest::plain(config(), 0);
    assert_eq!(guest.command(CONTROL, &[1, 1, 2, 9, 8, 7, 6, 5]), OK);
    let mut mac = [0; 6];
    guest.driver.read_config(0, &mut mac);
    assert_eq!(mac, [2, 9, 8, 7, 6, 5]);
    assert_eq!(guest.command(CONTROL, &[1, 1, 3, 9, 8, 7, 6, 5]), ERR);
    guest.driver.reset();
    guest.driver.read_config(0, &mut mac);
    assert_eq!(mac, MAC);
}

#[test]
fn which_packets_are_wanted_is_heard() {
    let mut guest = Guest::plain(config(), 0);
    let table = |macs: u32| {
        [&macs.to_le_bytes()[..], &[7; 6].repeat(usize::try_from(macs).unwrap())].concat()
    };
    let tables = |a, b| [&[1, 0][..], &table(a), &table(b)].concat();
    for command in [vec![0, 0, 1], vec![0, 0, 0], vec![0, 1, 1], tables(0, 0), tables(3, 70)] {
        assert_eq!(guest.command(CONTROL, &command), OK, "{command:?}");
    }
}

#[test]
fn commands_that_make_no_sense_are_answered_with_an_error() {
    let mut guest = Guest::with_header(0);
    let huge = [&[1, 0][..], &u32::MAX.to_le_bytes(), &[0; 40]].concat();
    for command in [
        &[][..],
        &[0],
        &[0, 0],
        &[0, 0, 2],
        &[0, 0, 1, 1],
        &[0, 2, 1],
        &[1, 0],
        &[1, 0, 1, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &huge,
        &[1, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 7, 7],
        &[1, 1, 2, 0, 0, 0, 0],
        &[1, 1, 2, 0, 0, 0, 0, 0, 0],
        &[1, 1, 0, 0, 0, 0, 0, 0],
        &[2, 0, 1, 0],
        &[4, 0, 1, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0, 0x80, 0],
        &[5, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[5, 0, 0],
        &[0xff, 0xff],
        &[0x77; 3000],
    ] {
        assert_eq!(guest.command(CONTROL, command), ERR, "{command:?}");
    }
    let mut mac = [0; 6];
    guest.driver.read_config(0, &mut mac);
    assert_eq!(mac, MAC);
}

#[test]
fn what_was_not_agreed_on_is_an_error_or_nothing_at_all() {
    let not = CTRL_RX | CTRL_MAC_ADDR | CTRL_GUEST_OFFLOADS;
    let mut guest = Guest::with_header(not);
    for command in [&[0, 0, 1][..], &[1, 1, 2, 0, 0, 0, 0, 1], &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(guest.command(CONTROL, command), ERR, "{command:?}");
    }
    let mut guest = Guest::with_header(CTRL_VQ);
    assert_eq!(guest.command(CONTROL, &[0, 0, 1]), (0, 0xee));
}

#[test]
fn a_command_without_room_for_the_answer_does_nothing() {
    let mut guest = Guest::plain(config(), 0);
    guest.driver.memory().write_slice(&[1, 1, 2, 9, 8, 7, 6, 5], GuestAddress(guest::OUT)).unwrap();
    guest.driver.queues[CONTROL].offer(&[(guest::OUT, 8, false)]);
    guest.driver.kick_and_run(CONTROL);
    assert_eq!(guest.driver.queues[CONTROL].used()[0].1, 0);
    let mut mac = [0; 6];
    guest.driver.read_config(0, &mut mac);
    assert_eq!(mac, MAC);
}

#[test]
fn links_are_told_what_the_driver_understands() {
    assert_eq!(Pairs::new(1, 0).offloads(), Offloads::ALL);
    assert_eq!(Pairs::new(1, GUEST_CSUM).offloads(), Offloads::NONE);
    let mut pairs = Pairs::new(1, GUEST_TSO4);
    let without = Offloads { tso4: false, ..Offloads::ALL };
    assert_eq!(pairs.offloads(), without);
    pairs.driver.reset();
    assert_eq!(pairs.offloads(), Offloads::NONE);
}

#[test]
fn offloads_are_changed_by_command_until_a_reset() {
    let mut pairs = Pairs::new(1, 0);
    let only_sums = Offloads { checksum: true, ..Offloads::NONE };
    for (bits, offloads) in [(GUEST_CSUM, only_sums), (0, Offloads::NONE)] {
        let command = [&[5, 0][..], &bits.to_le_bytes()].concat();
        assert_eq!(pairs.command(CONTROL, &command), OK);
        assert_eq!(pairs.offloads(), offloads);
    }
    pairs.driver.start(pairs.driver.offered());
    assert_eq!(pairs.offloads(), Offloads::ALL);
}

#[test]
fn pairs_are_used_as_the_driver_says() {
    let mut pairs = Pairs::new(3, 0);
    let control = 6;
    assert_eq!(pairs.active(), [true, false, false]);
    assert_eq!(pairs.command(control, &[4, 0, 2, 0]), OK);
    assert_eq!(pairs.active(), [true, true, false]);
    for count in [0, 4, 0xff] {
        assert_eq!(pairs.command(control, &[4, 0, count, 0]), ERR);
    }
    assert_eq!(pairs.active(), [true, true, false]);
    for index in 0..3 {
        let packet = [&[0; 12][..], &frame(60, 3)].concat();
        pairs.wires[index].send(&packet).unwrap();
        pairs.driver.queues[2 * index].offer(&[(IN, 2048, true)]);
        pairs.driver.kick_and_run(2 * index);
        let used = pairs.driver.queues[2 * index].used().len();
        assert_eq!(used, usize::from(index < 2), "pair {index}");
    }
    pairs.driver.reset();
    assert_eq!(pairs.active(), [true, false, false]);
}

#[test]
fn without_several_pairs_the_third_queue_is_for_commands() {
    let mut pairs = Pairs::new(3, MQ);
    assert_eq!(pairs.command(2, &[0, 0, 1]), OK);
    assert_eq!(pairs.command(2, &[4, 0, 2, 0]), ERR);
    assert_eq!(pairs.active(), [true, false, false]);
}

fn per_second(packets: u64) -> Rates {
    let rate = NonZeroU64::new(packets).map(|rate| Rate::new(rate).size(1));
    Rates { ops: rate, bytes: None }
}

#[test]
fn packets_beyond_the_rate_wait_and_go_on_by_themselves() {
    let rates = per_second(100);
    let config = NetConfig { receive: rates, transmit: rates, ..config() };
    let mut guest = Guest::plain(config, 0);
    let start = Instant::now();
    let sent = guest.send(&plain(&frame(60, 0)), 100).len();
    for _ in 0..3 {
        guest.wire.send(&frame(60, 1)).unwrap();
    }
    guest.offer(3, 2048);
    let (mut sent, mut received) = (sent + guest.send(&plain(&frame(60, 0)), 100).len(), 0);
    while sent < 2 || received < 3 {
        guest.driver.run();
        sent += guest.driver.queues[guest::TX].used().len();
        received += guest.driver.queues[guest::RX].used().len();
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    assert!(start.elapsed() >= Duration::from_millis(19), "{:?}", start.elapsed());
}

#[test]
fn packets_beyond_the_rate_of_one_direction_go_on_by_themselves() {
    let rates = per_second(100);
    let config = NetConfig { transmit: rates, ..config() };
    let mut guest = Guest::plain(config, 0);
    let mut sent = 0;
    for _ in 0..3 {
        sent += guest.send(&plain(&frame(60, 0)), 100).len();
    }
    let start = Instant::now();
    while sent < 3 {
        guest.driver.run();
        sent += guest.driver.queues[guest::TX].used().len();
        assert!(start.elapsed() < Duration::from_secs(20), "{sent} of 3 packets have gone");
    }
}

#[test]
fn a_packet_that_waits_for_the_wire_is_charged_once() {
    let rate = NonZeroU64::new(1).map(|rate| Rate::new(rate).size(1500));
    let config = NetConfig { transmit: Rates { ops: rate, bytes: None }, ..config() };
    let mut guest = Guest::plain(config, 0);
    while guest.send(&plain(&frame(1500, 0)), 2000).len() == 1 {}
    for _ in 0..3000 {
        // Has the packet tried again.
        guest.handle.with(|_| ());
        guest.driver.run();
    }
    while guest.sent().is_some() {}
    guest.driver.run();
    assert_eq!(guest.driver.queues[guest::TX].used().len(), 1);
}

#[test]
fn a_rate_is_lifted_while_packets_wait() {
    let config = NetConfig { transmit: per_second(1), ..config() };
    let mut guest = Guest::plain(config, 0);
    assert_eq!(guest.send(&plain(&frame(60, 0)), 100).len(), 1);
    assert_eq!(guest.send(&plain(&frame(60, 0)), 100).len(), 0);
    guest.handle.with(|net| net.set_rates(Rates::default(), Rates::default()));
    guest.driver.run();
    assert_eq!(guest.driver.queues[guest::TX].used().len(), 1);
}
