//! The used ring (virtio 1.3 §2.7.8): giving chains back, and whether to say so.

use std::sync::atomic::{Ordering, fence};

use memory::View;
use virtio_queue::{Error, QueueT};

use crate::split::{ELEMENT, HEADER, INDEX, Split, slot};

/// The flag by which a driver without `EVENT_IDX` asks for no interrupts (virtio 1.3 §2.7.6).
const NO_INTERRUPT: u16 = 1;
/// Pages are marked, not bytes.
const PAGE: usize = 4 << 10;

/// Gives `chains` (number of the first descriptor, bytes written) back, at once: the driver sees all
/// of them or none.
pub(crate) fn publish(
    queue: &mut Split,
    chains: impl Iterator<Item = (u16, u32)>,
) -> Result<(), Error> {
    let Split { state, used, .. } = queue;
    let (first, size) = (state.next_used(), state.size());
    let mut next = first;
    for (head, len) in chains {
        let at = entry(next, size);
        let element = [u32::from(head).to_le(), len.to_le()];
        if used.store_each(at, element, Ordering::Relaxed).is_none() {
            return Err(Error::AddressOverflow);
        }
        next = next.wrapping_add(1);
    }
    state.set_next_used(next);
    let stored = used.store(2, next.to_le(), Ordering::Release);
    mark(used, entry(first, size), entry(next, size), size);
    if stored.is_some() { Ok(()) } else { Err(Error::AddressOverflow) }
}

/// Marks the index of the ring and the entries from `start` on up to `end`, around the end if need be.
fn mark(used: &View, start: usize, end: usize, size: u16) {
    if start < end && end <= PAGE {
        // In one page, or in two: no need to ask twice.
        return used.mark_dirty(0, end);
    }
    used.mark_dirty(0, HEADER);
    if start < end {
        used.mark_dirty(start, end - start);
    } else {
        used.mark_dirty(HEADER, ELEMENT * usize::from(size));
    }
}

/// Where an entry of the used ring is.
fn entry(index: u16, size: u16) -> usize {
    HEADER + ELEMENT * slot(index, size)
}

/// Whether the driver wants to be interrupted for what was used after entry `told` of the ring.
pub(crate) fn wants_interrupt(queue: &Split, told: u16) -> Result<bool, Error> {
    // What was used must be seen before the driver's wish is read (virtio 1.3 §2.7.10.1).
    fence(Ordering::SeqCst);
    let Split { state, available, .. } = queue;
    let load = |at: usize| match available.load(at, Ordering::Relaxed) {
        Some(value) => Ok(u16::from_le(value)),
        None => Err(Error::AddressOverflow),
    };
    if !state.event_idx_enabled() {
        return Ok(load(0)? & NO_INTERRUPT == 0);
    }
    let event = load(HEADER + INDEX * usize::from(state.size()))?;
    let now = state.next_used();
    Ok(now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(told))
}

#[cfg(test)]
mod tests {
    use device::{FakeWiring, Wiring};
    use memory::{Backing, Bytes, GuestAddress, GuestMemory, Ram};
    use virtio_queue::QueueState;

    use super::*;

    const AVAIL: u64 = 0x1000;
    const USED: u64 = 0x2000;

    fn queue(event_idx_enabled: bool, next_used: u16) -> (GuestMemory, Split) {
        let memory = FakeWiring::new().unwrap().memory();
        let split = split(&memory, 4, event_idx_enabled, next_used);
        (memory, split)
    }

    fn split(memory: &GuestMemory, size: u16, event_idx_enabled: bool, next_used: u16) -> Split {
        let state = QueueState {
            max_size: size,
            next_avail: next_used,
            next_used,
            event_idx_enabled,
            size,
            ready: true,
            desc_table: 0x100,
            avail_ring: AVAIL,
            used_ring: USED,
        };
        Split::new(state, memory).unwrap()
    }

    #[test]
    fn chains_are_written_around_the_end_before_the_index_moves_past_them() {
        let (memory, mut queue) = queue(false, 0xffff);
        publish(&mut queue, [(1, 10), (2, 20)].into_iter()).unwrap();
        let ring: [u32; 9] = memory.read_obj(GuestAddress(USED)).unwrap();
        assert_eq!((ring[0] >> 16, ring[7], ring[8], ring[1], ring[2]), (1, 1, 10, 2, 20));
        assert_eq!(queue.state.next_used(), 1);
    }

    #[test]
    fn a_driver_with_event_idx_is_told_when_its_index_was_passed() {
        let (memory, queue) = queue(true, 0xffff);
        for (event, told, wants) in [
            (0xfffe, 0xfffe, true),
            (0xfffd, 0xfffe, false),
            (0xfffd, 0xfffc, true),
            (3, 0xfffe, false),
        ] {
            memory.write_obj(event, GuestAddress(AVAIL + 4 + 2 * 4)).unwrap();
            assert_eq!(wants_interrupt(&queue, told).unwrap(), wants, "{event:#x}");
        }
    }

    #[test]
    fn a_driver_without_event_idx_is_told_unless_it_asked_not_to_be() {
        let (memory, queue) = queue(false, 1);
        assert!(wants_interrupt(&queue, 0).unwrap());
        memory.write_obj(NO_INTERRUPT, GuestAddress(AVAIL)).unwrap();
        assert!(!wants_interrupt(&queue, 0).unwrap());
    }

    #[test]
    fn every_page_of_the_ring_that_was_written_is_dirty() {
        let ram = Ram::new(&[(GuestAddress(0), 1 << 20)], Backing::Anonymous).unwrap();
        // Entries 0 to 510 share a page with the index; 4 KiB and 12 KiB further are two others.
        for (size, next_used, chains, pages) in [
            (4, 1, 2, &[2_usize][..]),
            (2048, 3, 1, &[2]),
            (2048, 700, 1, &[2, 3]),
            (2048, 1000, 600, &[2, 3, 4, 5]),
            (2048, 2047, 2, &[2, 3, 4, 5, 6]),
        ] {
            let mut queue = split(&ram.memory(), size, false, next_used);
            ram.take_dirty(|_, _| Ok::<_, ()>(Vec::new())).unwrap();
            publish(&mut queue, (0..chains).map(|head| (head, 1))).unwrap();
            let dirty = ram.take_dirty(|_, _| Ok::<_, ()>(Vec::new())).unwrap();
            let found: Vec<_> = (0..256).filter(|page| dirty.contains(0, *page)).collect();
            assert_eq!(found, pages, "{chains} of {size} from {next_used} on");
        }
    }
}
