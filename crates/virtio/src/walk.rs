//! From descriptors in guest memory to a checked list of buffers in ours.

use memory::{GuestMemory, Scatter};

use crate::descriptor::Descriptor;

/// Chains may be this long however small the queue, because Linux makes indirect chains longer than
/// the queue that they are on (virtio 1.3 §2.7.5.3.1 forbids it).
const MIN_LIMIT: usize = 1024;

/// The buffers of one chain, or of several that are served as one. Kept by the worker from chain to
/// chain, so that serving allocates nothing.
#[derive(Debug)]
pub(crate) struct Parts {
    scatter: Scatter,
    /// How many buffers there are.
    buffers: usize,
    /// How many places the device may read; the others it may write.
    readable: usize,
    /// How many bytes it may read.
    input: usize,
}

/// What is wrong with a chain. The driver gets it back with length 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A loop, an index or table that does not exist, or more than 2^32 bytes.
    Unterminated,
    /// More buffers than the queue has entries.
    TooLong,
    /// A buffer of length 0.
    Empty,
    /// A buffer outside RAM.
    OutsideRam,
    /// A readable buffer after a writable one (virtio 1.3 §2.7.4.2).
    Order,
}

impl Parts {
    /// No buffers yet, in `memory`.
    pub(crate) fn new(memory: GuestMemory) -> Self {
        Self { scatter: Scatter::new(memory), buffers: 0, readable: 0, input: 0 }
    }

    /// Forgets the buffers, and keeps the room for them.
    pub(crate) fn clear(&mut self) {
        self.scatter.clear();
        (self.buffers, self.readable, self.input) = (0, 0, 0);
    }

    /// Reads the descriptors of a chain, each once, checks them, and adds its buffers to those that
    /// are there. What the driver changes later is not looked at.
    pub(crate) fn walk(
        &mut self,
        mut chain: impl Iterator<Item = Descriptor>,
        queue_size: u16,
    ) -> Result<(), Malformed> {
        let limit = self.buffers.saturating_add(usize::from(queue_size).max(MIN_LIMIT));
        loop {
            // The iterator just ends at what it cannot follow.
            let descriptor = chain.next().ok_or(Malformed::Unterminated)?;
            self.push(&descriptor, limit)?;
            if !descriptor.has_next() {
                return Ok(());
            }
        }
    }

    #[inline]
    fn push(&mut self, descriptor: &Descriptor, limit: usize) -> Result<(), Malformed> {
        if self.buffers >= limit {
            return Err(Malformed::TooLong);
        }
        if descriptor.len == 0 {
            return Err(Malformed::Empty);
        }
        let is_readable = !descriptor.is_write_only();
        match (is_readable, self.room() > 0) {
            (true, true) => return Err(Malformed::Order),
            (false, false) => self.scatter.close(),
            _ => {}
        }
        self.add(descriptor)?;
        if is_readable {
            (self.readable, self.input) = (self.scatter.pieces().len(), self.scatter.bytes());
        }
        Ok(())
    }

    /// Adds a buffer behind others of its direction, of which nothing is left to check but where it lies.
    // Always: as `Scatter::push`, of which it is hardly more.
    #[inline(always)]
    pub(crate) fn add(&mut self, descriptor: &Descriptor) -> Result<(), Malformed> {
        let bytes = usize::try_from(descriptor.len).map_err(|_| Malformed::OutsideRam)?;
        self.scatter.push(descriptor.addr, bytes).map_err(|_| Malformed::OutsideRam)?;
        self.buffers += 1;
        Ok(())
    }

    /// All buffers.
    pub(crate) fn scatter(&self) -> &Scatter {
        &self.scatter
    }

    /// How many places of them the device may read; it may write the others.
    pub(crate) fn readable(&self) -> usize {
        self.readable
    }

    /// How many bytes the device may read.
    pub(crate) fn input(&self) -> usize {
        self.input
    }

    /// How many bytes the device may write.
    pub(crate) fn room(&self) -> usize {
        self.scatter.bytes().saturating_sub(self.input)
    }
}

#[cfg(test)]
mod tests {
    use device::{FakeWiring, Wiring};

    use super::*;

    const NEXT: u16 = 1;
    const WRITE: u16 = 2;

    fn walk(chain: &[(u64, u32, u16)], queue_size: u16) -> Result<(usize, usize), Malformed> {
        let memory = FakeWiring::new().unwrap().memory();
        let mut parts = Parts::new(memory);
        let chain = chain.iter().map(|&(addr, len, flags)| Descriptor::new(addr, len, flags, 0));
        parts.walk(chain, queue_size)?;
        let places = parts.scatter().pieces().len();
        Ok((parts.readable(), places - parts.readable()))
    }

    #[test]
    fn a_chain_is_split_by_direction() {
        let chain = [(0, 16, NEXT), (0x100, 1, NEXT | WRITE), (0xf_fff0, 16, WRITE)];
        assert_eq!(walk(&chain, 4), Ok((1, 2)));
    }

    #[test]
    fn buffers_that_follow_each_other_are_one_place_unless_their_directions_differ() {
        let chain = [(0, 16, NEXT), (16, 16, NEXT), (32, 1, NEXT | WRITE), (33, 7, WRITE)];
        assert_eq!(walk(&chain, 4), Ok((1, 1)));
    }

    #[test]
    fn a_chain_that_ends_too_early_is_refused() {
        assert_eq!(walk(&[], 4), Err(Malformed::Unterminated));
        assert_eq!(walk(&[(0, 1, NEXT)], 4), Err(Malformed::Unterminated));
    }

    #[test]
    fn an_empty_buffer_is_refused() {
        assert_eq!(walk(&[(0, 0, 0)], 4), Err(Malformed::Empty));
    }

    #[test]
    fn a_buffer_that_leaves_ram_is_refused() {
        assert_eq!(walk(&[(0xf_fff0, 17, 0)], 4), Err(Malformed::OutsideRam));
        assert_eq!(walk(&[(u64::MAX, 2, 0)], 4), Err(Malformed::OutsideRam));
    }

    #[test]
    fn a_readable_buffer_after_a_writable_one_is_refused() {
        assert_eq!(walk(&[(0, 1, NEXT | WRITE), (0, 1, 0)], 4), Err(Malformed::Order));
    }

    #[test]
    fn a_chain_may_have_1024_buffers_on_a_small_queue_and_no_more() {
        let mut chain = vec![(0, 1, NEXT); 1023];
        chain.push((0, 1, 0));
        assert_eq!(walk(&chain, 4), Ok((1024, 0)));
        chain.insert(0, (0, 1, NEXT));
        assert_eq!(walk(&chain, 4), Err(Malformed::TooLong));
        assert_eq!(walk(&chain, 2048), Ok((1025, 0)));
    }
}
