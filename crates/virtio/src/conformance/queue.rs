//! The driver's side of a split ring (virtio 1.3 §2.7), in guest RAM.

use memory::{Bytes, GuestAddress, GuestMemory};

/// The descriptor continues in another.
pub const NEXT: u16 = 1;
/// The device writes the buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// The most entries that the driver asks for.
const SIZE: u16 = 16;
/// Rings take a page each, from here on.
const RINGS: u64 = 0x1000;
const PAGE: u64 = 0x1000;
/// Buffers are below this; rings, as many as there may be, too.
const END: u64 = 0x10_0000;
/// The largest number of queues that the driver has room for.
const QUEUES: u32 = 128;
/// Where buffers and indirect tables start.
pub const BUFFERS: u64 = RINGS + PAGE * QUEUES as u64;

/// One descriptor, as a driver writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Guest physical address of the buffer.
    pub addr: u64,
    /// Its length, bytes.
    pub len: u32,
    /// [`NEXT`], [`WRITE`], [`INDIRECT`].
    pub flags: u16,
    /// Number of the next one, with [`NEXT`].
    pub next: u16,
}

/// One queue of the driver. Its fields may be set to whatever a test wants the device to see.
#[derive(Debug)]
pub struct Queue {
    memory: GuestMemory,
    /// Its number.
    pub index: u32,
    /// The most entries that the device takes.
    pub max: u16,
    /// How many the driver asks for.
    pub size: u32,
    /// Guest physical addresses of descriptor table, available and used ring.
    pub places: [u64; 3],
    /// Whether `EVENT_IDX` was agreed on.
    pub events: bool,
    /// The index of the next chain to offer.
    pub offered: u16,
    /// The index of the next chain to get back.
    pub taken: u16,
    free: u16,
}

impl Queue {
    pub(super) fn new(memory: GuestMemory, index: u32, max: u16) -> Self {
        assert!(index < QUEUES, "the driver has room for {QUEUES} queues");
        let (size, places) = Self::usual(index, max);
        Self { memory, index, max, size, places, events: false, offered: 0, taken: 0, free: 0 }
    }

    fn usual(index: u32, max: u16) -> (u32, [u64; 3]) {
        let page = RINGS + PAGE * u64::from(index);
        (max.min(SIZE).into(), [page, page + 0x400, page + 0x800])
    }

    /// Forgets everything, and clears the rings.
    pub(super) fn reset(&mut self) {
        (self.size, self.places) = Self::usual(self.index, self.max);
        (self.offered, self.taken, self.free, self.events) = (0, 0, 0, false);
        let page = usize::try_from(PAGE).unwrap_or(0);
        self.put(self.places[0], &vec![0; page]);
    }

    pub(super) fn moved(self, memory: GuestMemory) -> Self {
        Self { memory, ..self }
    }

    fn put(&self, addr: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(addr)).expect("rings lie in RAM");
    }

    fn get<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_slice(&mut bytes, GuestAddress(addr)).expect("rings lie in RAM");
        bytes
    }

    fn get_u16(&self, addr: u64) -> u16 {
        u16::from_le_bytes(self.get(addr))
    }

    /// Writes descriptor number `at` of the table at `table`.
    pub fn put_descriptor(&self, table: u64, at: u16, descriptor: Descriptor) {
        let Descriptor { addr, len, flags, next } = descriptor;
        let place = table + 16 * u64::from(at);
        self.put(place, &addr.to_le_bytes());
        self.put(place + 8, &len.to_le_bytes());
        self.put(place + 12, &flags.to_le_bytes());
        self.put(place + 14, &next.to_le_bytes());
    }

    /// Writes descriptor number `at` of the queue's own table.
    pub fn put_own(&self, at: u16, descriptor: Descriptor) {
        self.put_descriptor(self.places[0], at, descriptor);
    }

    /// Offers the chain that starts at descriptor `head`, whatever is there.
    pub fn offer_head(&mut self, head: u16) {
        let slot = u64::from(self.offered) % u64::from(self.size);
        self.put(self.places[1] + 4 + 2 * slot, &head.to_le_bytes());
        self.set_offered(self.offered.wrapping_add(1));
    }

    /// Says that `index` chains were offered in all.
    pub fn set_offered(&mut self, index: u16) {
        self.offered = index;
        self.put(self.places[1] + 2, &index.to_le_bytes());
    }

    /// Offers a chain of `buffers` (address, length, whether the device writes it): its head.
    ///
    /// # Panics
    /// The chain is longer than the queue.
    pub fn offer(&mut self, buffers: &[(u64, u32, bool)]) -> u16 {
        let size = u16::try_from(self.size).expect("sizes are small");
        assert!(buffers.len() <= usize::from(size), "the chain is longer than the queue");
        if usize::from(self.free) + buffers.len() > usize::from(size) {
            self.free = 0;
        }
        let head = self.free;
        for (place, &(addr, len, write)) in buffers.iter().enumerate() {
            let last = place + 1 == buffers.len();
            let flags = if write { WRITE } else { 0 } | if last { 0 } else { NEXT };
            let next = self.free + 1;
            self.put_own(self.free, Descriptor { addr, len, flags, next });
            self.free += 1;
        }
        self.offer_head(head);
        head
    }

    /// Offers a chain of `buffers` by an indirect table at `table`: its head.
    pub fn offer_indirect(&mut self, table: u64, buffers: &[(u64, u32, bool)]) -> u16 {
        for (place, &(addr, len, write)) in (0..).zip(buffers) {
            let last = usize::from(place) + 1 == buffers.len();
            let flags = if write { WRITE } else { 0 } | if last { 0 } else { NEXT };
            self.put_descriptor(table, place, Descriptor { addr, len, flags, next: place + 1 });
        }
        let len = 16 * u32::try_from(buffers.len()).expect("chains are short");
        let head = self.free % u16::try_from(self.size).expect("sizes are small");
        self.put_own(head, Descriptor { addr: table, len, flags: INDIRECT, next: 0 });
        self.free = head + 1;
        self.offer_head(head);
        head
    }

    /// The chains that came back since the last call: head and length.
    pub fn used(&mut self) -> Vec<(u32, u32)> {
        let index = self.get_u16(self.places[2] + 2);
        let mut used = Vec::new();
        while self.taken != index {
            let slot = u64::from(self.taken) % u64::from(self.size);
            let place = self.places[2] + 4 + 8 * slot;
            let head = u32::from_le_bytes(self.get(place));
            used.push((head, u32::from_le_bytes(self.get(place + 4))));
            self.taken = self.taken.wrapping_add(1);
            assert!(used.len() <= usize::from(self.max), "more chains came back than there are");
        }
        used
    }

    /// Asks for no interrupts (`true`) or for all, by flag.
    pub fn suppress(&self, on: bool) {
        self.put(self.places[1], &u16::from(on).to_le_bytes());
    }

    /// Asks for an interrupt when chain number `index` has come back, by event index.
    pub fn set_used_event(&self, index: u16) {
        self.put(self.places[1] + 4 + 2 * u64::from(self.size), &index.to_le_bytes());
    }

    /// Whether the device wants to be notified of the chain offered last.
    pub fn wants_kick(&self) -> bool {
        if self.events {
            let event = self.get_u16(self.places[2] + 4 + 8 * u64::from(self.size));
            return self.offered.wrapping_sub(1) == event;
        }
        self.get_u16(self.places[2]) & 1 == 0
    }
}

// Half of RAM is left for buffers.
const _: () = assert!(BUFFERS < END);
