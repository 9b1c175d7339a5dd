//! The chains of one queue that the device has kept.

use crate::walk::Parts;

/// What [`Served::Pending`](crate::Served::Pending) has left: the buffers of each chain, by the number
/// of its first descriptor. Lists of buffers are used again, so that keeping a chain allocates nothing
/// once as many were in flight before.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    slots: Vec<Option<Parts>>,
    spare: Vec<Parts>,
    count: usize,
}

impl InFlight {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn holds(&self, head: u16) -> bool {
        self.count > 0 && self.slots.get(usize::from(head)).is_some_and(Option::is_some)
    }

    /// Keeps `parts` as the buffers of chain `head`, which is not held, and leaves an empty list.
    pub(crate) fn keep(&mut self, head: u16, parts: &mut Parts) {
        let index = usize::from(head);
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            let spare = self.spare.pop();
            let spare = spare.unwrap_or_else(|| Parts::new(parts.scatter().memory().clone()));
            *slot = Some(std::mem::replace(parts, spare));
            self.count += 1;
        }
    }

    pub(crate) fn take(&mut self, head: u16) -> Option<Parts> {
        let parts = self.slots.get_mut(usize::from(head))?.take()?;
        self.count -= 1;
        Some(parts)
    }

    /// Takes back the list of a chain that has ended.
    pub(crate) fn recycle(&mut self, parts: Parts) {
        self.spare.push(parts);
    }
}

#[cfg(test)]
mod tests {
    use device::{FakeWiring, Wiring};

    use super::*;

    #[test]
    fn a_chain_is_held_until_it_is_taken() {
        let mut in_flight = InFlight::default();
        in_flight.keep(3, &mut Parts::new(FakeWiring::new().unwrap().memory()));
        assert!(in_flight.holds(3) && !in_flight.holds(2));
        assert_eq!(in_flight.count(), 1);
        assert!(in_flight.take(2).is_none());
        let parts = in_flight.take(3).unwrap();
        in_flight.recycle(parts);
        assert_eq!((in_flight.count(), in_flight.holds(3)), (0, false));
    }
}
