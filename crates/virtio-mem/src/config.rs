//! What the owner of a machine decides about its memory.

use memory::{GuestAddress, GuestMemory, GuestMemoryBackend};

use crate::region::Region;

/// The default size of a block, bytes: that of a transparent huge page, so that what is unplugged is a
/// whole one, and what Linux plugs in the end anyway.
pub const BLOCK: u64 = 2 << 20;
/// A block is made of pages.
const PAGE: u64 = 4 << 10;

/// Which memory a [`Mem`](crate::Mem) manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemConfig {
    /// Guest physical address of the region, a multiple of `block`. Linux uses what lies in whole
    /// memory sections, which are 128 MiB and at times up to 2 GiB.
    pub start: GuestAddress,
    /// Size of the region, bytes, a multiple of `block`: what can be plugged at most.
    pub len: u64,
    /// Size of a block, bytes: a power of two from 4096 on.
    pub block: u64,
}

impl MemConfig {
    /// A region of `len` bytes at `start`, in blocks of 2 MiB ([`BLOCK`]).
    pub fn new(start: GuestAddress, len: u64) -> Self {
        Self { start, len, block: BLOCK }
    }

    pub(crate) fn region(&self, memory: &GuestMemory) -> Result<Region, MemError> {
        let &Self { start, len, block } = self;
        if !block.is_power_of_two() || block < PAGE {
            return Err(MemError::Block(block));
        }
        if len == 0 || !len.is_multiple_of(block) || !start.0.is_multiple_of(block) {
            return Err(MemError::Region { start: start.0, len, block });
        }
        let bytes = usize::try_from(len).ok();
        if !bytes.is_some_and(|bytes| memory.check_range(start, bytes)) {
            return Err(MemError::NoMemory { start: start.0, len });
        }
        Ok(Region { start: start.0, len, block })
    }
}

/// Why a region cannot be managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemError {
    /// Blocks of that size are not possible.
    #[error("blocks of {0} bytes; a block is a power of two from 4096 on")]
    Block(u64),
    /// The region is not made of whole blocks.
    #[error(
        "a region of {len} bytes at {start:#x}; its start and its size are multiples of a block of \
         {block} bytes, and it has at least one"
    )]
    Region {
        /// Guest physical address.
        start: u64,
        /// Size, bytes.
        len: u64,
        /// Size of a block, bytes.
        block: u64,
    },
    /// The machine does not have the memory.
    #[error("{len} bytes at {start:#x} are not memory of the machine; add them to its RAM first")]
    NoMemory {
        /// Guest physical address.
        start: u64,
        /// Size, bytes.
        len: u64,
    },
}

/// Why that much memory is not requested of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{bytes} bytes cannot be plugged; what can are multiples of {block} bytes up to {most} bytes"
)]
pub struct RequestedError {
    /// What was asked for.
    pub bytes: u64,
    /// Size of a block, bytes.
    pub block: u64,
    /// The most there can be, bytes.
    pub most: u64,
}
