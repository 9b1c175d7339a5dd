//! The used ring (virtio 1.3 §2.7.8): giving chains back, and whether to say so.

use std::sync::atomic::{Ordering, fence};

use memory::{GuestAddress, GuestMemory, access};
use virtio_queue::{Error, Queue, QueueT};

/// The flag by which a driver without `EVENT_IDX` asks for no interrupts (virtio 1.3 §2.7.6).
const NO_INTERRUPT: u16 = 1;
/// Bytes before the entries of either ring.
const HEADER: u64 = 4;
/// Bytes of an entry of the used ring.
const ELEMENT: u64 = 8;
/// Bytes of an entry of the available ring.
const INDEX: u64 = 2;

/// Gives `chains` (number of the first descriptor, bytes written) back, at once: the driver sees all
/// of them or none.
pub(crate) fn publish(
    queue: &mut Queue,
    memory: &GuestMemory,
    chains: impl Iterator<Item = (u16, u32)>,
) -> Result<(), Error> {
    let ring = queue.used_ring();
    let mut next = queue.next_used();
    for (head, len) in chains {
        let element = [u32::from(head).to_le(), len.to_le()];
        let slot = u64::from(next % queue.size());
        let at = ring.wrapping_add(HEADER + ELEMENT * slot);
        access::write_obj(memory, GuestAddress(at), element).map_err(Error::GuestMemory)?;
        next = next.wrapping_add(1);
    }
    queue.set_next_used(next);
    let index = GuestAddress(ring.wrapping_add(2));
    access::store(memory, index, next.to_le(), Ordering::Release).map_err(Error::GuestMemory)
}

/// Whether the driver wants to be interrupted for what was used after entry `told` of the ring.
pub(crate) fn wants_interrupt(
    queue: &Queue,
    memory: &GuestMemory,
    told: u16,
) -> Result<bool, Error> {
    // What was used must be seen before the driver's wish is read (virtio 1.3 §2.7.10.1).
    fence(Ordering::SeqCst);
    let ring = queue.avail_ring();
    let load = |at: u64| -> Result<u16, Error> {
        let at = GuestAddress(ring.wrapping_add(at));
        access::load(memory, at, Ordering::Relaxed).map(u16::from_le).map_err(Error::GuestMemory)
    };
    if !queue.event_idx_enabled() {
        return Ok(load(0)? & NO_INTERRUPT == 0);
    }
    let event = load(HEADER + INDEX * u64::from(queue.size()))?;
    let now = queue.next_used();
    Ok(now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(told))
}

#[cfg(test)]
mod tests {
    use device::{FakeWiring, Wiring};
    use memory::Bytes;
    use virtio_queue::QueueState;

    use super::*;

    const AVAIL: u64 = 0x1000;
    const USED: u64 = 0x2000;

    fn queue(event_idx_enabled: bool, next_used: u16) -> (GuestMemory, Queue) {
        let state = QueueState {
            max_size: 4,
            next_avail: next_used,
            next_used,
            event_idx_enabled,
            size: 4,
            ready: true,
            desc_table: 0x100,
            avail_ring: AVAIL,
            used_ring: USED,
        };
        (FakeWiring::new().unwrap().memory(), Queue::try_from(state).unwrap())
    }

    #[test]
    fn chains_are_written_around_the_end_before_the_index_moves_past_them() {
        let (memory, mut queue) = queue(false, 0xffff);
        publish(&mut queue, &memory, [(1, 10), (2, 20)].into_iter()).unwrap();
        let ring: [u32; 9] = memory.read_obj(GuestAddress(USED)).unwrap();
        assert_eq!((ring[0] >> 16, ring[7], ring[8], ring[1], ring[2]), (1, 1, 10, 2, 20));
        assert_eq!(queue.next_used(), 1);
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
            assert_eq!(wants_interrupt(&queue, &memory, told).unwrap(), wants, "{event:#x}");
        }
    }

    #[test]
    fn a_driver_without_event_idx_is_told_unless_it_asked_not_to_be() {
        let (memory, queue) = queue(false, 1);
        assert!(wants_interrupt(&queue, &memory, 0).unwrap());
        memory.write_obj(NO_INTERRUPT, GuestAddress(AVAIL)).unwrap();
        assert!(!wants_interrupt(&queue, &memory, 0).unwrap());
    }
}
