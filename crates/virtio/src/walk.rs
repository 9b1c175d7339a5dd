//! From descriptors in guest memory to a checked list of buffers in ours.

use memory::{GuestAddress, GuestMemory, access};
use virtio_queue::desc::split::Descriptor;

/// Chains may be this long however small the queue, because Linux makes indirect chains longer than
/// the queue that they are on (virtio 1.3 §2.7.5.3.1 forbids it).
const MIN_LIMIT: usize = 1024;

/// One buffer, which lies in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) addr: GuestAddress,
    pub(crate) len: u32,
}

/// The buffers of one chain. Kept by the worker from chain to chain, so that serving allocates
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    list: Vec<Part>,
    readable: usize,
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
    /// Forgets the buffers, and keeps the room for them.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.readable = 0;
    }

    /// Reads the descriptors of a chain, each once, checks them, and adds its buffers to those that
    /// are there. What the driver changes later is not looked at.
    pub(crate) fn walk(
        &mut self,
        chain: impl Iterator<Item = Descriptor>,
        memory: &GuestMemory,
        queue_size: u16,
    ) -> Result<(), Malformed> {
        let limit = self.list.len().saturating_add(usize::from(queue_size).max(MIN_LIMIT));
        let mut continues = true;
        for descriptor in chain {
            self.push(&descriptor, memory, limit)?;
            continues = descriptor.has_next();
        }
        // The iterator just ends at what it cannot follow.
        if continues { Err(Malformed::Unterminated) } else { Ok(()) }
    }

    fn push(
        &mut self,
        descriptor: &Descriptor,
        memory: &GuestMemory,
        limit: usize,
    ) -> Result<(), Malformed> {
        let (addr, len) = (descriptor.addr(), descriptor.len());
        if self.list.len() >= limit {
            return Err(Malformed::TooLong);
        }
        let bytes = usize::try_from(len).map_err(|_| Malformed::OutsideRam)?;
        if bytes == 0 {
            return Err(Malformed::Empty);
        }
        if !access::is_ram(memory, addr, bytes) {
            return Err(Malformed::OutsideRam);
        }
        if !descriptor.is_write_only() {
            if self.list.len() > self.readable {
                return Err(Malformed::Order);
            }
            self.readable += 1;
        }
        self.list.push(Part { addr, len });
        Ok(())
    }

    /// What the device may read.
    pub(crate) fn readable(&self) -> &[Part] {
        self.list.get(..self.readable).unwrap_or_default()
    }

    /// How many bytes the device may write.
    pub(crate) fn room(&self) -> u32 {
        self.writable().iter().fold(0, |sum: u32, part| sum.saturating_add(part.len))
    }

    /// What the device may write.
    pub(crate) fn writable(&self) -> &[Part] {
        self.list.get(self.readable..).unwrap_or_default()
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
        let mut parts = Parts::default();
        let chain = chain.iter().map(|&(addr, len, flags)| Descriptor::new(addr, len, flags, 0));
        parts.walk(chain, &memory, queue_size)?;
        Ok((parts.readable().len(), parts.writable().len()))
    }

    #[test]
    fn a_chain_is_split_by_direction() {
        let chain = [(0, 16, NEXT), (0x100, 1, NEXT | WRITE), (0xf_fff0, 16, WRITE)];
        assert_eq!(walk(&chain, 4), Ok((1, 2)));
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
