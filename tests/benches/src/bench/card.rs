//! A driver of a network card on a real ring in guest RAM, as lean as a kernel's.

use std::{
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    time::{Duration, Instant},
};

use device::{EventFd, FakeWiring, IoAddr, Node, Subscriber, Wiring};
use event_manager::{EventManager, SubscriberOps};
use memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, Scatter};
use virtio::Handle;
use virtio_net::Net;

use crate::error::Result;

/// Entries of the ring.
const SIZE: u16 = 256;
const DESCRIPTORS: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x2_0000;
const USED: u64 = 0x3_0000;
/// Bytes that hold either of those two.
const RING: usize = 0x1000;
const TABLE: u64 = 0x4_0000;
/// Where packets are, from the guest and for it: those for it overwrite each other.
const DATA: u64 = 0x8_0000;
/// Bytes of a piece: a page, as Linux has them.
const PIECE: u32 = 4096;
/// How long nothing may happen, milliseconds.
const LIMIT: i32 = 2000;
/// Places for pieces.
const PIECES: u64 = 64;
/// So many of them follow each other: Linux cuts its buffers from 32 KiB.
const ROW: u64 = 8;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// `CSUM`, `GUEST_CSUM`, `GUEST_TSO4`, `HOST_TSO4`, `MRG_RXBUF`, indirect descriptors.
const FEATURES: u32 = 1 | 1 << 1 | 1 << 7 | 1 << 11 | 1 << 15 | 1 << 28;

/// Which way packets go, from the guest's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Receive,
    Transmit,
}

/// A driver that uses one of a card's queues for the same packet again and again.
pub(super) struct Card {
    memory: GuestMemory,
    events: EventManager<Subscriber>,
    doorbell: EventFd,
    handle: Handle<Net>,
    direction: Direction,
    /// Bytes of a packet with its header.
    len: usize,
    /// Chains of a packet.
    chains: u16,
    offered: u16,
    taken: u16,
    packets: u64,
    /// The device's wiring, which holds its doorbells.
    _wiring: FakeWiring,
}

impl Card {
    /// A driver of `net` for packets like `packet`.
    pub(super) fn new(net: Net, direction: Direction, packet: &[u8]) -> Result<Self> {
        let mut wiring = FakeWiring::new()?;
        let handle = wiring.attach(virtio::mmio(net))?;
        let buses = wiring.freeze()?;
        let base = wiring.nodes.iter().find_map(|node| match node {
            Node::VirtioMmio { base, .. } => Some(*base),
            _ => None,
        });
        let base = base.ok_or("the device has no registers")?;
        let queue = u16::from(direction == Direction::Transmit);
        for (register, value) in start(queue)? {
            buses.mmio.write(base + register, &value.to_le_bytes());
        }
        let mut events = EventManager::new()?;
        for subscriber in &wiring.subscribers {
            events.add_subscriber(Arc::clone(subscriber));
        }
        while events.run_with_timeout(0)? > 0 {}
        let bell = (IoAddr::Mmio(base + 0x50), Some(u32::from(queue)));
        let bell = wiring.doorbells.iter().find(|at| (at.0, at.1) == bell);
        let doorbell = bell.ok_or("the queue has no doorbell")?.2.try_clone()?;
        let (memory, _wiring) = (wiring.memory(), wiring);
        // It looks at the ring by itself: no interrupts.
        memory.write_obj(1_u16, GuestAddress(AVAILABLE))?;
        for (piece, bytes) in (0..).zip(packet.chunks(usize::try_from(PIECE)?)) {
            memory.write_slice(bytes, GuestAddress(place(piece)))?;
        }
        let len = packet.len();
        describe(&memory, direction, len)?;
        let pieces = u16::try_from(len.div_ceil(usize::try_from(PIECE)?))?;
        let chains = if direction == Direction::Receive { pieces } else { 1 };
        let (offered, taken, packets) = (0, 0, 0);
        Ok(Self {
            memory,
            events,
            doorbell,
            handle,
            direction,
            len,
            chains,
            offered,
            taken,
            packets,
            _wiring,
        })
    }

    /// Where packets are, one after the other, and then from the start again.
    pub(super) fn places(&self) -> Result<Vec<Scatter>> {
        let piece = usize::try_from(PIECE)?;
        let pieces = u64::try_from(self.len.div_ceil(piece))?;
        let packets = if self.direction == Direction::Receive { PIECES / pieces } else { 1 };
        let packet = |number: u64| {
            let mut scatter = Scatter::new(self.memory.clone());
            for (at, start) in (number * pieces..).zip((0..self.len).step_by(piece)) {
                scatter.push(GuestAddress(place(at)), piece.min(self.len - start))?;
            }
            Ok(scatter)
        };
        (0..packets).map(packet).collect()
    }

    /// What is not a packet's own cost: room for all that may come.
    pub(super) fn prepare(&mut self) -> Result<()> {
        if self.direction == Direction::Receive {
            let free = SIZE - self.offered.wrapping_sub(self.taken);
            self.offer(free)?;
        }
        Ok(())
    }

    /// Sends `count` packets, or receives as many, which are there. How long the device was at work: what
    /// the driver does is done by a guest's vCPU.
    pub(super) fn run(&mut self, count: u16) -> Result<Duration> {
        self.packets += u64::from(count);
        if self.direction == Direction::Transmit {
            self.offer(count)?;
        }
        // As a guest has it: to look a place up is the device's business.
        let memory = self.memory.clone();
        let used = memory.get_slice(GuestAddress(USED), RING)?;
        let mut rest = count * self.chains;
        let mut took = Duration::ZERO;
        while rest > 0 {
            let begin = Instant::now();
            if self.events.run_with_timeout(LIMIT)? == 0 {
                return Err(format!("nothing happens, and {rest} chains are missing").into());
            }
            took += begin.elapsed();
            let index: u16 = used.load(2, Ordering::Acquire)?;
            let come = index.wrapping_sub(self.taken);
            self.taken = index;
            rest = rest.checked_sub(come).ok_or("more chains than packets need")?;
            if self.direction == Direction::Receive && rest > 0 {
                self.offer(come)?;
            }
        }
        Ok(took)
    }

    /// Whether the packets went where they should.
    pub(super) fn check(&self) -> Result<()> {
        let counters = self.handle.with(|net| net.counters());
        let seen = counters.received + counters.transmitted;
        let dropped = counters.receive_dropped + counters.transmit_dropped;
        if (seen, dropped) == (self.packets, 0) {
            return Ok(());
        }
        Err(format!("of {} packets {seen} went, and {dropped} were dropped", self.packets).into())
    }

    /// Offers `count` chains and tells the device, if it wants to know.
    fn offer(&mut self, count: u16) -> Result<()> {
        self.offered = self.offered.wrapping_add(count);
        let index = GuestAddress(AVAILABLE + 2);
        self.memory.store(self.offered, index, Ordering::Release)?;
        fence(Ordering::SeqCst);
        let flags: u16 = self.memory.load(GuestAddress(USED), Ordering::Relaxed)?;
        if flags & 1 == 0 {
            self.doorbell.write(1)?;
        }
        Ok(())
    }
}

/// From reset to a working device with queue number `queue` in use: registers and values.
fn start(queue: u16) -> Result<Vec<(u64, u32)>> {
    let mut writes = vec![(0x070, 1), (0x070, 3), (0x024, 1), (0x020, 1)];
    writes.extend([(0x024, 0), (0x020, FEATURES), (0x070, 11)]);
    writes.extend([(0x030, queue.into()), (0x038, SIZE.into())]);
    for (register, place) in [(0x080, DESCRIPTORS), (0x090, AVAILABLE), (0x0a0, USED)] {
        writes.push((register, u32::try_from(place)?));
    }
    writes.extend([(0x044, 1), (0x070, 15)]);
    Ok(writes)
}

/// Where piece number `piece` is.
fn place(piece: u64) -> u64 {
    let (row, at) = (piece % PIECES / ROW, piece % ROW);
    // No row follows the one before it.
    let row = row * 3 % (PIECES / ROW);
    DATA + (row * ROW + at) * u64::from(PIECE)
}

/// Writes what stays the same: the descriptors.
fn describe(memory: &GuestMemory, direction: Direction, len: usize) -> Result<()> {
    let put = |table: u64, at: u64, (addr, len, flags): (u64, u32, u16)| -> Result<()> {
        let rest = u64::from(len) | u64::from(flags) << 32 | (at + 1) << 48;
        Ok(memory.write_obj([addr, rest], GuestAddress(table + 16 * at))?)
    };
    let len = u32::try_from(len)?;
    let pieces = u64::from(len.div_ceil(PIECE));
    for piece in 0..pieces {
        let rest = len - u32::try_from(piece)? * PIECE;
        let next = if piece + 1 < pieces { NEXT } else { 0 };
        put(TABLE, piece, (place(piece), rest.min(PIECE), next))?;
    }
    for slot in 0..u64::from(SIZE) {
        let own = match direction {
            Direction::Receive => (place(slot), PIECE, WRITE),
            Direction::Transmit if pieces == 1 => (DATA, len, 0),
            Direction::Transmit => (TABLE, 16 * u32::try_from(pieces)?, INDIRECT),
        };
        put(DESCRIPTORS, slot, own)?;
        // Chains come back in order, so each entry of the ring leads to the same one for ever.
        memory.write_obj(u16::try_from(slot)?, GuestAddress(AVAILABLE + 4 + 2 * slot))?;
    }
    Ok(())
}
