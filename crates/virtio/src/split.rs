//! A split queue in use (virtio 1.3 §2.7): virtio-queue's state of it, and its rings, looked up once.

use memory::{GuestAddress, GuestMemory, View};
use virtio_queue::{Queue, QueueState, QueueT};

use crate::RingError;

/// Bytes of a descriptor.
pub(crate) const DESCRIPTOR: usize = 16;
/// Bytes before the entries of either ring.
pub(crate) const HEADER: usize = 4;
/// Bytes of an entry of the available ring.
pub(crate) const INDEX: usize = 2;
/// Bytes of an entry of the used ring.
pub(crate) const ELEMENT: usize = 8;

/// The entry of a ring of `size` entries, a power of two, that an index leads to.
#[inline]
pub(crate) fn slot(index: u16, size: u16) -> usize {
    usize::from(index & size.wrapping_sub(1))
}

/// A queue in use.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) state: Queue,
    pub(crate) descriptors: View,
    pub(crate) available: View,
    pub(crate) used: View,
    /// How far the driver had come when it was last looked at (index of the available ring).
    pub(crate) offered: u16,
}

impl Split {
    /// The queue of `state`, if its rings lie in RAM, aligned: lengths with the event index at their
    /// end, alignments of §2.7.
    pub(crate) fn new(state: QueueState, memory: &GuestMemory) -> Result<Self, RingError> {
        let size = usize::from(state.size);
        let view = |what, addr: u64, len: usize, align: u64| {
            // virtio-queue takes address 0 for "not set".
            let place = (addr != 0 && addr.is_multiple_of(align)).then_some(GuestAddress(addr));
            let view = place.and_then(|addr| View::new(memory, addr, len).ok());
            view.ok_or(RingError::Place { what, addr, len, align })
        };
        let table = DESCRIPTOR * size;
        let available = HEADER + INDEX * size + 2;
        let used = HEADER + ELEMENT * size + 2;
        let wrong_size = RingError::Size { size: state.size.into(), max: state.max_size };
        Ok(Self {
            offered: state.next_avail,
            descriptors: view("the descriptor table", state.desc_table, table, 16)?,
            available: view("the available ring", state.avail_ring, available, 2)?,
            used: view("the used ring", state.used_ring, used, 4)?,
            state: Queue::try_from(state).map_err(|_| wrong_size)?,
        })
    }

    /// Goes on with chain number `next` of the ring, all before it being used.
    pub(crate) fn resume(&mut self, next: u16) {
        self.state.set_next_avail(next);
        self.state.set_next_used(next);
        self.offered = next;
    }
}
