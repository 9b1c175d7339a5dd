//! What was looked up of one region.

use vm_memory::{GuestAddress, GuestMemoryRegion, MemoryRegionAddress};

use crate::Region;

/// A region, as far as it is needed here.
#[derive(Clone, Copy)]
pub(super) struct Home {
    pub(super) region: *const Region,
    pub(super) start: u64,
    len: usize,
    pub(super) base: *mut u8,
}

impl Home {
    pub(super) fn new(region: &Region) -> Option<Self> {
        let base = region.get_host_address(MemoryRegionAddress(0)).ok()?;
        let len = usize::try_from(region.len()).ok()?;
        Some(Self { region, start: region.start_addr().0, len, base })
    }

    /// Where in the region `len` bytes at `addr` are, if all of them are there.
    #[inline]
    pub(super) fn offset(&self, addr: GuestAddress, len: usize) -> Option<usize> {
        let offset = usize::try_from(addr.0.checked_sub(self.start)?).ok()?;
        (len <= self.len.checked_sub(offset)?).then_some(offset)
    }

    /// Where in the region an address of ours is.
    #[inline]
    pub(super) fn place(&self, at: usize) -> Option<usize> {
        at.checked_sub(self.base.addr()).filter(|offset| *offset < self.len)
    }
}
