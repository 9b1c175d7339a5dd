//! A driver of a block device on a real ring in guest RAM, as lean as a kernel's.

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use device::{EventFd, FakeWiring, IoAddr, Node, Subscriber, Wiring};
use event_manager::{EventManager, SubscriberOps};
use memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, Scatter};
use virtio_blk::Blk;

use crate::error::Result;

/// Bytes of `FakeWiring`'s RAM.
const RAM: usize = 1 << 20;
/// Entries of the ring.
const SIZE: u16 = 64;
const DESCRIPTORS: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x2_0000;
const USED: u64 = 0x3_0000;
const TABLES: u64 = 0x4_0000;
/// Bytes of the table of one request.
const TABLE: u64 = 0x100;
const HEADERS: u64 = 0x5_0000;
const STATUS: u64 = 0x6_0000;
const DATA: u64 = 0x8_0000;
/// The most bytes of one piece of data; reads that have several have them at the same place.
const MOST: usize = 256 << 10;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A driver that keeps a number of reads of the same size under way.
pub(super) struct Reader {
    memory: GuestMemory,
    events: EventManager<Subscriber>,
    doorbell: EventFd,
    depth: u16,
    offered: u16,
    taken: u16,
    /// The device's wiring, which holds its doorbells.
    _wiring: FakeWiring,
}

impl Reader {
    /// A driver for `blk` with `depth` reads of `len` bytes.
    pub(super) fn new(blk: Blk, depth: u16, len: usize) -> Result<Self> {
        let mut wiring = FakeWiring::new()?;
        wiring.attach(virtio::mmio(blk))?;
        let buses = wiring.freeze()?;
        let base = wiring.nodes.iter().find_map(|node| match node {
            Node::VirtioMmio { base, .. } => Some(*base),
            _ => None,
        });
        let base = base.ok_or("the device has no registers")?;
        for (register, value) in start()? {
            buses.mmio.write(base + register, &value.to_le_bytes());
        }
        let mut events = EventManager::new()?;
        for subscriber in &wiring.subscribers {
            events.add_subscriber(Arc::clone(subscriber));
        }
        while events.run_with_timeout(0)? > 0 {}
        let bell = (IoAddr::Mmio(base + 0x50), Some(0));
        let bell = wiring.doorbells.iter().find(|at| (at.0, at.1) == bell);
        let doorbell = bell.ok_or("the queue has no doorbell")?.2.try_clone()?;
        let (memory, _wiring) = (wiring.memory(), wiring);
        // It looks at the ring by itself: no interrupts.
        memory.write_obj(1_u16, GuestAddress(AVAILABLE))?;
        for read in 0..depth {
            prepare(&memory, read, len)?;
        }
        Ok(Self { memory, events, doorbell, depth, offered: 0, taken: 0, _wiring })
    }

    /// Where the data of each read goes.
    pub(super) fn data(&self, len: usize) -> Result<Vec<Scatter>> {
        let place = |read: u64| {
            let mut scatter = Scatter::new(self.memory.clone());
            for (addr, len) in pieces(read, len) {
                scatter.push(GuestAddress(addr), len)?;
            }
            Ok(scatter)
        };
        (0..u64::from(self.depth)).map(place).collect()
    }

    /// Makes `count` reads from where `next` says, in bytes.
    pub(super) fn run(&mut self, count: usize, mut next: impl FnMut() -> u64) -> Result<()> {
        let memory = self.memory.clone();
        // As a guest has it: to look a place up is the device's business.
        let ram = memory.get_slice(GuestAddress(0), RAM)?;
        let mut offered = self.offered;
        let mut offer = |read: u16| -> Result<()> {
            ram.write_obj(next() / 512, place(HEADERS + u64::from(read) * 16 + 8))?;
            ram.write_obj(read, place(AVAILABLE + 4 + 2 * u64::from(offered % SIZE)))?;
            offered = offered.wrapping_add(1);
            ram.store(offered, place(AVAILABLE + 2), Ordering::Release)?;
            Ok(())
        };
        // Tells the device, if it wants to know.
        let tell = |doorbell: &EventFd| -> Result<()> {
            fence(Ordering::SeqCst);
            let flags: u16 = ram.load(place(USED), Ordering::Relaxed)?;
            if flags & 1 == 0 {
                doorbell.write(1)?;
            }
            Ok(())
        };
        let (mut started, mut done) = (count.min(self.depth.into()), 0);
        (0..u16::try_from(started)?).try_for_each(&mut offer)?;
        tell(&self.doorbell)?;
        while done < count {
            self.events.run()?;
            let (index, before): (u16, _) =
                (ram.load(place(USED + 2), Ordering::Acquire)?, started);
            while self.taken != index {
                let entry = USED + 4 + 8 * u64::from(self.taken % SIZE);
                let read: u32 = ram.read_obj(place(entry))?;
                let status: u8 = ram.read_obj(place(STATUS + u64::from(read)))?;
                if status != 0 {
                    return Err(format!("a read ends with status {status}").into());
                }
                self.taken = self.taken.wrapping_add(1);
                done += 1;
                if started < count {
                    offer(u16::try_from(read)?)?;
                    started += 1;
                }
            }
            if started > before {
                tell(&self.doorbell)?;
            }
        }
        self.offered = offered;
        Ok(())
    }
}

/// Where an address is in RAM, which begins at 0.
fn place(addr: u64) -> usize {
    usize::try_from(addr).unwrap_or(usize::MAX)
}

/// From reset to a working device with one queue in use: registers and values.
fn start() -> Result<Vec<(u64, u32)>> {
    let mut writes = vec![(0x070, 1), (0x070, 3), (0x024, 1), (0x020, 1)];
    // Indirect descriptors.
    writes.extend([(0x024, 0), (0x020, 1 << 28), (0x070, 11), (0x030, 0), (0x038, SIZE.into())]);
    for (register, place) in [(0x080, DESCRIPTORS), (0x090, AVAILABLE), (0x0a0, USED)] {
        writes.push((register, u32::try_from(place)?));
    }
    writes.extend([(0x044, 1), (0x070, 15)]);
    Ok(writes)
}

/// Writes what stays the same: the descriptors of a read.
fn prepare(memory: &GuestMemory, read: u16, len: usize) -> Result<()> {
    let (at, table) = (u64::from(read), TABLES + u64::from(read) * TABLE);
    let mut chain = vec![(HEADERS + at * 16, 16, NEXT)];
    for (addr, len) in pieces(at, len) {
        chain.push((addr, u32::try_from(len)?, NEXT | WRITE));
    }
    chain.push((STATUS + at, 1, WRITE));
    let own = (table, 16 * u32::try_from(chain.len())?, INDIRECT);
    let inside = (0..).zip(chain).map(|(place, part)| (table + 16 * u64::from(place), part, place));
    for (place, (addr, len, flags), number) in inside.chain([(DESCRIPTORS + at * 16, own, 0_u16)]) {
        let next = u64::from(number) + 1;
        let rest = u64::from(len) | u64::from(flags) << 32 | next << 48;
        memory.write_obj([addr, rest], GuestAddress(place))?;
    }
    Ok(())
}

/// The pieces of the data of a read of `len` bytes.
fn pieces(read: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let (addr, piece) = if len > MOST { (DATA, MOST) } else { (DATA + read * len as u64, len) };
    std::iter::repeat_n((addr, piece), len / piece)
}
