//! The addresses that a device manages.

use std::ops::Range;

use memory::GuestAddress;

/// A region of whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// Bytes; a power of two.
    pub(crate) block: u64,
}

impl Region {
    /// The numbers of `count` blocks from address `at` on; `None` if that is not where a block starts,
    /// there are none, or some are not in the region.
    pub(crate) fn blocks(&self, at: u64, count: u16) -> Option<Range<usize>> {
        let offset = at.checked_sub(self.start)?;
        if count == 0 || !offset.is_multiple_of(self.block) {
            return None;
        }
        let first = offset / self.block;
        let end = first.checked_add(count.into())?;
        if end > self.len / self.block {
            return None;
        }
        Some(usize::try_from(first).ok()?..usize::try_from(end).ok()?)
    }

    /// Where blocks are: start and length in bytes.
    pub(crate) fn place(&self, blocks: &Range<usize>) -> (GuestAddress, u64) {
        let bytes =
            |count: usize| self.block.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX));
        (GuestAddress(self.start.saturating_add(bytes(blocks.start))), bytes(blocks.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight blocks that end where the address space does.
    const LAST: Region = Region { start: u64::MAX - 0x7fff, len: 0x7000, block: 0x1000 };
    const REGION: Region = Region { start: 0x10_0000, len: 0x8000, block: 0x1000 };

    #[test]
    fn blocks_inside_are_found_by_their_numbers() {
        assert_eq!(REGION.blocks(0x10_0000, 1), Some(0..1));
        assert_eq!(REGION.blocks(0x10_3000, 5), Some(3..8));
        assert_eq!(REGION.place(&(3..8)), (GuestAddress(0x10_3000), 0x5000));
    }

    #[test]
    fn what_is_not_whole_blocks_inside_is_refused() {
        for (at, count) in [
            (0x10_0000, 0),
            (0x10_0000, 9),
            (0x10_0000, u16::MAX),
            (0x10_0800, 1),
            (0x10_3000, 6),
            (0x10_8000, 1),
            (0xf_f000, 2),
            (0, 1),
            (u64::MAX - 0xfff, 1),
            (u64::MAX, u16::MAX),
        ] {
            assert_eq!(REGION.blocks(at, count), None, "{count} blocks at {at:#x}");
            assert!(LAST.blocks(at, u16::MAX).is_none());
        }
        assert_eq!(LAST.blocks(LAST.start, 7), Some(0..7));
        assert_eq!(LAST.blocks(LAST.start, 8), None);
    }
}
