//! A driver that has written its rings beforehand: a batch costs it one store and one notification.

use std::{error::Error, sync::Arc};

use bus::Buses;
use device::{Attach, EventFd, FakeWiring, IoAddr, Node, Subscriber, Wiring};
use event_manager::{EventManager, SubscriberOps};
use memory::{Bytes, GuestAddress, GuestMemory};

/// Requests of a batch.
pub(crate) const BATCH: u16 = 64;
/// Entries of the queue: a whole number of batches.
const SIZE: u16 = 256;
const DESCRIPTORS: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x2_0000;
const USED: u64 = 0x3_0000;
const BUFFERS: u64 = 0x4_0000;
/// Room for the buffers of one request, bytes.
const ROOM: u64 = 0x2000;

/// A part of each request, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer {
    /// What the device reads.
    Out(u32),
    /// What it writes.
    In(u32),
}

/// A device at work, and its driver on one of its queues.
pub(crate) struct Driver {
    memory: GuestMemory,
    events: EventManager<Subscriber>,
    doorbell: EventFd,
    offered: u16,
    /// The device's wiring, which holds its doorbells.
    _wiring: FakeWiring,
}

impl Driver {
    /// Attaches `device`, whose queue number `queue` will get requests of these buffers.
    pub(crate) fn new<A: Attach>(
        device: A,
        queue: u32,
        chain: &[Buffer],
    ) -> Result<Self, Box<dyn Error>> {
        let mut wiring = FakeWiring::new()?;
        wiring.attach(device)?;
        let buses = wiring.freeze()?;
        let base = wiring.nodes.iter().find_map(|node| match node {
            Node::VirtioMmio { base, .. } => Some(*base),
            _ => None,
        });
        let base = base.ok_or("the device has no registers")?;
        let memory = wiring.memory();
        write_rings(&memory, chain)?;
        start(&buses, base, queue)?;
        let mut events = EventManager::new()?;
        for subscriber in &wiring.subscribers {
            events.add_subscriber(Arc::clone(subscriber));
        }
        let at = (IoAddr::Mmio(base + 0x50), Some(queue));
        let bell = wiring.doorbells.iter().find(|bell| (bell.0, bell.1) == at);
        let doorbell = bell.ok_or("the queue has no doorbell")?.2.try_clone()?;
        Ok(Self { memory, events, doorbell, offered: 0, _wiring: wiring })
    }

    /// Writes `head` to the start of every request.
    pub(crate) fn write_heads(&self, head: &[u8]) -> Result<(), Box<dyn Error>> {
        for request in 0..u64::from(BATCH) {
            self.memory.write_slice(head, GuestAddress(BUFFERS + ROOM * request))?;
        }
        Ok(())
    }

    /// Has the device serve one batch of requests, which must all come back.
    pub(crate) fn batch(&mut self) -> Result<(), Box<dyn Error>> {
        self.offered = self.offered.wrapping_add(BATCH);
        self.memory.write_obj(self.offered, GuestAddress(AVAILABLE + 2))?;
        self.doorbell.write(1)?;
        while self.events.run_with_timeout(0)? > 0 {}
        let used: u16 = self.memory.read_obj(GuestAddress(USED + 2))?;
        if used != self.offered {
            return Err(format!("{used} requests came back of {}", self.offered).into());
        }
        Ok(())
    }
}

/// Descriptors of one batch, and an available ring that offers them again and again.
fn write_rings(memory: &GuestMemory, chain: &[Buffer]) -> Result<(), Box<dyn Error>> {
    let parts = u16::try_from(chain.len())?;
    for request in 0..BATCH {
        let mut at = BUFFERS + ROOM * u64::from(request);
        for (part, buffer) in (0..parts).zip(chain) {
            let index = request * parts + part;
            let (len, write) = match *buffer {
                Buffer::Out(len) => (len, 0),
                Buffer::In(len) => (len, 2),
            };
            let (next, flags) = if part + 1 < parts { (index + 1, write | 1) } else { (0, write) };
            let low = u64::from(len) | flags << 32 | u64::from(next) << 48;
            let place = GuestAddress(DESCRIPTORS + 16 * u64::from(index));
            memory.write_obj([at, low], place)?;
            at += u64::from(len);
        }
    }
    for entry in 0..SIZE {
        let head = entry % BATCH * parts;
        memory.write_obj(head, GuestAddress(AVAILABLE + 4 + 2 * u64::from(entry)))?;
    }
    Ok(())
}

/// From reset to a working device with one queue in use, without optional features.
fn start(buses: &Buses, base: u64, queue: u32) -> Result<(), Box<dyn Error>> {
    let mut writes = vec![(0x070, 1), (0x070, 3), (0x024, 1), (0x020, 1), (0x070, 11)];
    writes.extend([(0x030, queue), (0x038, SIZE.into())]);
    for (register, place) in [(0x080, DESCRIPTORS), (0x090, AVAILABLE), (0x0a0, USED)] {
        writes.push((register, u32::try_from(place)?));
    }
    writes.extend([(0x044, 1), (0x070, 15)]);
    for (register, value) in writes {
        buses.mmio.write(base + register, &u32::to_le_bytes(value));
    }
    Ok(())
}
