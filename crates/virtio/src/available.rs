//! The available ring (virtio 1.3 §2.7.6) and what its entries lead to (§2.7.5): what virtio-queue does,
//! by shorter ways into RAM, which every chain goes several times.

use std::sync::atomic::Ordering;

use memory::{Bytes, GuestAddress, GuestMemory, Window};
use virtio_queue::{Error, QueueT};

use crate::{
    descriptor::Descriptor,
    split::{DESCRIPTOR, HEADER, INDEX, Split, slot},
};

/// Takes the next chain: the number of its first descriptor, which is the driver's and anything. `None`
/// if there is none.
pub(crate) fn next(queue: &mut Split) -> Result<Option<u16>, Error> {
    let next = queue.state.next_avail();
    if next == queue.offered && !look(queue)? {
        return Ok(None);
    }
    let Some(head) = head(queue) else { return Err(Error::InvalidAvailRingIndex) };
    queue.state.set_next_avail(next.wrapping_add(1));
    Ok(Some(head))
}

/// What the entry of the next chain says.
#[inline]
fn head(queue: &Split) -> Option<u16> {
    let slot = slot(queue.state.next_avail(), queue.state.size());
    queue.available.load(HEADER + INDEX * slot, Ordering::Relaxed).map(u16::from_le)
}

/// Looks how far the driver has come. Whether there are chains.
fn look(queue: &mut Split) -> Result<bool, Error> {
    let index = queue.available.load(2, Ordering::Acquire).map(u16::from_le);
    let Some(index) = index else { return Err(Error::InvalidAvailRingIndex) };
    let offered = index.wrapping_sub(queue.state.next_avail());
    if offered > queue.state.size() {
        return Err(Error::InvalidAvailRingIndex);
    }
    queue.offered = index;
    Ok(offered > 0)
}

/// The next chain, if the driver is known to have offered it and it is nothing but one buffer for the
/// device to write, as drivers offer them for what comes in: the number of its descriptor, if `is_free`
/// says so, and what that was when it was looked at. All others are left where they are.
#[inline]
pub(crate) fn next_room(
    queue: &mut Split,
    is_free: impl FnOnce(u16) -> bool,
) -> Option<(u16, Descriptor)> {
    let next = queue.state.next_avail();
    if next == queue.offered {
        return None;
    }
    let head = head(queue).filter(|head| is_free(*head))?;
    // Of a descriptor beyond its end the table has nothing. Not by `Descriptors`, which can do more and
    // costs a hundredth of a large packet.
    let table = queue.descriptors.window()?;
    let words = table.load_each(DESCRIPTOR * usize::from(head), Ordering::Relaxed)?;
    let [addr, rest] = words.map(u64::from_le);
    let descriptor = Descriptor::from_words(addr, rest);
    if !descriptor.is_lone_room() {
        return None;
    }
    queue.state.set_next_avail(next.wrapping_add(1));
    Some((head, descriptor))
}

/// The descriptors of one chain, each read once. It ends where the chain cannot be followed; the last
/// descriptor then still says that there is another.
#[derive(Debug)]
pub(crate) struct Descriptors<'a> {
    memory: &'a GuestMemory,
    /// Where descriptors are, if that is one region.
    window: Option<Window<'a>>,
    table: u64,
    /// Entries of the table.
    size: u16,
    next: u16,
    /// How many may still come: a chain is no longer than its table.
    left: u16,
    indirect: bool,
}

impl<'a> Descriptors<'a> {
    /// The chain of `queue` that starts with descriptor number `head`.
    pub(crate) fn new(queue: &'a Split, memory: &'a GuestMemory, head: u16) -> Self {
        let (table, size) = (queue.state.desc_table(), queue.state.size());
        let window = queue.descriptors.window();
        Self { memory, window, table, size, next: head, left: size, indirect: false }
    }

    #[inline]
    fn read(&self) -> Option<Descriptor> {
        if self.left == 0 || self.next >= self.size {
            return None;
        }
        let at = DESCRIPTOR * usize::from(self.next);
        let [addr, rest]: [u64; 2] = match &self.window {
            Some(window) => window.load_each(at, Ordering::Relaxed)?,
            None => self.read_slowly(at)?,
        };
        Some(Descriptor::from_words(u64::from_le(addr), u64::from_le(rest)))
    }

    #[cold]
    fn read_slowly(&self, at: usize) -> Option<[u64; 2]> {
        let at = self.table.checked_add(u64::try_from(at).ok()?)?;
        self.memory.read_obj(GuestAddress(at)).ok()
    }

    /// Goes on in the table that `descriptor` leads to, unless it is in such a table itself.
    fn enter(&mut self, descriptor: &Descriptor) -> Option<Descriptor> {
        let (table, bytes) = (descriptor.addr, usize::try_from(descriptor.len).ok()?);
        let aligned = table.0.is_multiple_of(16) && bytes.is_multiple_of(DESCRIPTOR);
        if self.indirect || !aligned {
            return None;
        }
        let size = u16::try_from(bytes / DESCRIPTOR).ok()?;
        self.window = Window::new(self.memory, table, bytes);
        (self.table, self.indirect) = (table.0, true);
        (self.size, self.next, self.left) = (size, 0, size);
        self.read()
    }
}

impl Iterator for Descriptors<'_> {
    type Item = Descriptor;

    #[inline]
    fn next(&mut self) -> Option<Descriptor> {
        let mut descriptor = self.read()?;
        if descriptor.refers_to_indirect_table() {
            descriptor = self.enter(&descriptor)?;
            if descriptor.refers_to_indirect_table() {
                return None;
            }
        }
        self.left = if descriptor.has_next() { self.left.saturating_sub(1) } else { 0 };
        self.next = descriptor.next;
        Some(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use device::{FakeWiring, Wiring};
    use virtio_queue::QueueState;

    use super::*;

    const TABLE: u64 = 0x100;
    const AVAIL: u64 = 0x1000;
    const OTHER: u64 = 0x4000;
    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    const INDIRECT: u16 = 4;

    fn queue(next_avail: u16) -> (GuestMemory, Split) {
        let state = QueueState {
            max_size: 4,
            next_avail,
            next_used: next_avail,
            event_idx_enabled: false,
            size: 4,
            ready: true,
            desc_table: TABLE,
            avail_ring: AVAIL,
            used_ring: 0x2000,
        };
        let memory = FakeWiring::new().unwrap().memory();
        let split = Split::new(state, &memory).unwrap();
        (memory, split)
    }

    fn put(memory: &GuestMemory, table: u64, at: u64, descriptor: Descriptor) {
        memory.write_obj(descriptor.to_words(), GuestAddress(table + 16 * at)).unwrap();
    }

    fn offer(memory: &GuestMemory, index: u16, heads: &[u16]) {
        memory.write_obj(index, GuestAddress(AVAIL + 2)).unwrap();
        for (slot, head) in (0..).zip(heads) {
            memory.write_obj(*head, GuestAddress(AVAIL + 4 + 2 * slot)).unwrap();
        }
    }

    fn addresses(memory: &GuestMemory, queue: &Split, head: u16) -> Vec<u64> {
        Descriptors::new(queue, memory, head).map(|descriptor| descriptor.addr.0).collect()
    }

    #[test]
    fn chains_are_taken_in_order_around_the_end_of_the_ring() {
        let (memory, mut queue) = queue(0xffff);
        offer(&memory, 1, &[7, 0, 0, 3]);
        let mut take = || next(&mut queue).unwrap();
        assert_eq!([take(), take(), take()], [Some(3), Some(7), None]);
        assert_eq!(queue.state.next_avail(), 1);
    }

    #[test]
    fn a_queue_that_comes_back_goes_on_where_it_is_told() {
        let (memory, mut queue) = queue(0);
        offer(&memory, 2, &[0, 1, 2, 3]);
        queue.resume(2);
        assert_eq!(next(&mut queue).unwrap(), None);
        offer(&memory, 3, &[0, 1, 2, 3]);
        assert_eq!(next(&mut queue).unwrap(), Some(2));
    }

    #[test]
    fn more_chains_than_entries_are_an_error_and_nothing_is_taken() {
        let (memory, mut queue) = queue(2);
        for index in [7, 1] {
            offer(&memory, index, &[]);
            assert!(matches!(next(&mut queue), Err(Error::InvalidAvailRingIndex)));
            assert_eq!(queue.state.next_avail(), 2);
        }
    }

    #[test]
    fn a_chain_that_is_room_and_nothing_else_is_taken_at_once() {
        let (memory, mut queue) = queue(0xffff);
        offer(&memory, 1, &[2, 0, 0, 1]);
        let lone = [Descriptor::new(0xa000, 7, WRITE, 9), Descriptor::new(0xb000, 8, WRITE, 0)];
        put(&memory, TABLE, 1, lone[0]);
        put(&memory, TABLE, 2, lone[1]);
        // Nobody has looked yet how far the driver has come.
        assert_eq!(next_room(&mut queue, |_| true), None);
        assert!(look(&mut queue).unwrap());
        assert_eq!(next_room(&mut queue, |head| head == 1), Some((1, lone[0])));
        assert_eq!(next_room(&mut queue, |head| head == 1), None);
        assert_eq!(queue.state.next_avail(), 0);
        assert_eq!(next_room(&mut queue, |_| true), Some((2, lone[1])));
        assert_eq!(next_room(&mut queue, |_| true), None);
        assert_eq!(queue.state.next_avail(), 1);
    }

    #[test]
    fn every_other_chain_is_left_where_it_is() {
        let (memory, mut queue) = queue(0);
        offer(&memory, 1, &[0]);
        assert!(look(&mut queue).unwrap());
        for (len, flags) in
            [(0, WRITE), (1, 0), (1, WRITE | NEXT), (16, INDIRECT), (16, INDIRECT | WRITE)]
        {
            put(&memory, TABLE, 0, Descriptor::new(OTHER, len, flags, 1));
            assert_eq!(next_room(&mut queue, |_| true), None, "{len} bytes, flags {flags}");
            assert_eq!(queue.state.next_avail(), 0);
        }
        put(&memory, TABLE, 0, Descriptor::new(OTHER, 1, WRITE, 0));
        offer(&memory, 1, &[4]);
        assert_eq!(next_room(&mut queue, |_| true), None, "a descriptor that there is not");
        offer(&memory, 1, &[0]);
        assert!(next_room(&mut queue, |_| true).is_some());
    }

    #[test]
    fn a_chain_is_followed_to_its_last_descriptor() {
        let (memory, queue) = queue(0);
        put(&memory, TABLE, 2, Descriptor::new(0xa000, 1, NEXT, 0));
        put(&memory, TABLE, 0, Descriptor::new(0xb000, 1, NEXT, 3));
        put(&memory, TABLE, 3, Descriptor::new(0xc000, 1, 0, 1));
        assert_eq!(addresses(&memory, &queue, 2), [0xa000, 0xb000, 0xc000]);
    }

    #[test]
    fn a_loop_ends_after_as_many_descriptors_as_the_table_has() {
        let (memory, queue) = queue(0);
        put(&memory, TABLE, 1, Descriptor::new(0xa000, 1, NEXT, 1));
        assert_eq!(addresses(&memory, &queue, 1).len(), 4);
        put(&memory, TABLE, 1, Descriptor::new(0xa000, 1, NEXT, 4));
        assert_eq!(addresses(&memory, &queue, 1).len(), 1);
        assert!(addresses(&memory, &queue, 4).is_empty());
    }

    #[test]
    fn an_indirect_table_may_follow_other_descriptors_and_be_longer_than_the_queue() {
        let (memory, queue) = queue(0);
        put(&memory, TABLE, 0, Descriptor::new(0x9000, 1, NEXT, 1));
        put(&memory, TABLE, 1, Descriptor::new(OTHER, 16 * 6, INDIRECT, 0));
        for at in 0..6 {
            let flags = if at < 5 { NEXT } else { 0 };
            let next = u16::try_from(at + 1).unwrap();
            put(&memory, OTHER, at, Descriptor::new(0xa000 + at, 1, flags, next));
        }
        let found = addresses(&memory, &queue, 0);
        assert_eq!((found.len(), found[0], found[1], found[6]), (7, 0x9000, 0xa000, 0xa005));
    }

    #[test]
    fn an_indirect_table_that_cannot_be_ends_the_chain() {
        let (memory, queue) = queue(0);
        put(&memory, OTHER, 0, Descriptor::new(OTHER, 16, INDIRECT, 0));
        let tables = [(OTHER, 16), (OTHER + 8, 16), (OTHER, 17), (OTHER, 0), (!15, 32)];
        let too_long = (OTHER, 16 << 16);
        for (addr, len) in tables.into_iter().chain([too_long]) {
            put(&memory, TABLE, 0, Descriptor::new(addr, len, INDIRECT, 0));
            assert!(addresses(&memory, &queue, 0).is_empty(), "{addr:#x}, {len} bytes");
        }
    }
}
