//! One thread's events: written by that thread, read by any, without a lock or unsafe code.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::{Event, Kind};

/// A slot is a sequence lock: odd while it is written, so that a reader drops what it saw torn.
#[derive(Default, Debug)]
struct Slot {
    sequence: AtomicU64,
    kind: AtomicU64,
    at: AtomicU64,
    took: AtomicU64,
    value: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Ring {
    slots: Box<[Slot]>,
    written: AtomicU64,
    taken: AtomicU64,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(capacity.max(1)).collect();
        Self { slots, written: AtomicU64::new(0), taken: AtomicU64::new(0) }
    }

    /// How many events it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, number: u64) -> Option<&Slot> {
        let len = u64::try_from(self.slots.len()).ok()?;
        self.slots.get(usize::try_from(number % len).ok()?)
    }

    /// Adds an event over the oldest one. Only the ring's own thread may call this.
    pub(crate) fn push(&self, event: &Event) {
        let number = self.written.load(Ordering::Relaxed);
        let Some(slot) = self.slot(number) else { return };
        slot.sequence.store(2 * number + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.kind.store(event.kind.number(), Ordering::Relaxed);
        slot.at.store(event.at, Ordering::Relaxed);
        slot.took.store(event.took, Ordering::Relaxed);
        slot.value.store(event.value, Ordering::Relaxed);
        slot.sequence.store(2 * number + 2, Ordering::Release);
        self.written.store(number + 1, Ordering::Release);
    }

    /// Takes the events since the last call, oldest first, and how many were lost to newer ones.
    pub(crate) fn take(&self) -> (Vec<Event>, u64) {
        let end = self.written.load(Ordering::Acquire);
        let start = self.taken.swap(end, Ordering::Relaxed);
        let len = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        let first = start.max(end.saturating_sub(len));
        let events: Vec<Event> = (first..end).filter_map(|number| self.read(number)).collect();
        let seen = u64::try_from(events.len()).unwrap_or(u64::MAX);
        (events, end.saturating_sub(start).saturating_sub(seen))
    }

    fn read(&self, number: u64) -> Option<Event> {
        let slot = self.slot(number)?;
        let before = slot.sequence.load(Ordering::Acquire);
        let event = Event {
            kind: Kind::from_number(slot.kind.load(Ordering::Relaxed))?,
            at: slot.at.load(Ordering::Relaxed),
            took: slot.took.load(Ordering::Relaxed),
            value: slot.value.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        let after = slot.sequence.load(Ordering::Relaxed);
        (before == after && before == 2 * number + 2).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: u64) -> Event {
        Event { kind: Kind::PioOut, at: value, took: 1, value }
    }

    #[test]
    fn events_come_back_in_order_and_once() {
        let ring = Ring::new(4);
        ring.push(&event(1));
        ring.push(&event(2));
        assert_eq!(ring.take(), (vec![event(1), event(2)], 0));
        assert_eq!(ring.take(), (vec![], 0));
    }

    #[test]
    fn the_oldest_events_are_lost_and_counted() {
        let ring = Ring::new(2);
        for value in 0..5 {
            ring.push(&event(value));
        }
        assert_eq!(ring.take(), (vec![event(3), event(4)], 3));
    }

    #[test]
    fn a_reader_beside_a_busy_writer_sees_only_whole_events() {
        let ring = Ring::new(8);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200_000).for_each(|value| ring.push(&event(value))));
            for _ in 0..1000 {
                let (events, _) = ring.take();
                assert!(events.iter().all(|event| event.at == event.value));
            }
        });
    }
}
