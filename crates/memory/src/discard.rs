//! Giving pages back to the host.

use std::{io, ops::Range};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statfs::{HUGETLBFS_MAGIC, fstatfs},
};
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, bitmap::Bitmap,
};

use crate::{GuestMemory, Region, advice};

/// The size of ordinary pages on x86-64, bytes.
const PAGE: u64 = 4 << 10;
/// The size of a reserved huge page whose mapping does not say, bytes.
const HUGE: u64 = 2 << 20;

/// Why pages were not given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscardError {
    /// Some of them are not RAM.
    #[error("{len} bytes at {start:#x} are not all RAM; pages of RAM can be given back")]
    OutsideRam {
        /// Guest physical start.
        start: u64,
        /// Length, bytes.
        len: u64,
    },
    /// The host does not take them, for one because a file system cannot make holes in its files.
    #[error("the host does not take back {len} bytes of RAM at {start:#x}")]
    Host {
        /// Guest physical start.
        start: u64,
        /// Length, bytes.
        len: u64,
        /// What the host said.
        source: io::Error,
    },
}

/// Gives the pages that lie wholly in `len` bytes at `start` back to the host: how many bytes that
/// were. From then on they read as zero and are marked dirty, and the host has more memory for others;
/// whoever writes to them gets new ones.
///
/// Ends of the range that are only part of a page stay as they are. So does part of a reserved huge
/// page, which the host gives and takes as one, and RAM that is a private copy of a file
/// ([`Backing::CopyOnWrite`](crate::Backing::CopyOnWrite)), which without its pages would read as that
/// file.
///
/// # Errors
/// Part of the range is not RAM: nothing is given back then. Or the host refuses.
pub fn discard(memory: &GuestMemory, start: GuestAddress, len: u64) -> Result<u64, DiscardError> {
    let outside = || DiscardError::OutsideRam { start: start.0, len };
    let bytes = usize::try_from(len).map_err(|_| outside())?;
    if !memory.check_range(start, bytes) {
        return Err(outside());
    }
    let (mut at, mut left, mut given) = (start, len, 0);
    while left > 0 {
        let region = memory.find_region(at).ok_or_else(outside)?;
        let offset = at.unchecked_offset_from(region.start_addr());
        let step = left.min(region.len().saturating_sub(offset));
        if step == 0 {
            return Err(outside());
        }
        let failed = |source| DiscardError::Host { start: at.0, len: step, source };
        given += discard_in(region, offset..offset + step).map_err(failed)?;
        left -= step;
        // The last step may end at the end of the address space.
        at = GuestAddress(at.0.wrapping_add(step));
    }
    Ok(given)
}

/// The same in one region, with offsets in it.
fn discard_in(region: &Region, range: Range<u64>) -> io::Result<u64> {
    let shared = region.flags() & libc::MAP_SHARED != 0;
    let file = region.file_offset();
    if file.is_some() && !shared {
        return Ok(0);
    }
    let page = page_size(region)?;
    let start = range.start.next_multiple_of(page);
    let end = range.end - range.end % page;
    if start >= end {
        return Ok(0);
    }
    let len = end - start;
    let bytes = usize::try_from(len).map_err(io::Error::other)?;
    match file {
        Some(file) => punch(file, start, len)?,
        None => advice::drop_pages(region, start, bytes)?,
    }
    // Afterwards: whoever takes the marks in between has either the old bytes and this mark to come, or
    // the new ones.
    let offset = usize::try_from(start).map_err(io::Error::other)?;
    region.get_mmap().bitmap().mark_dirty(offset, bytes);
    Ok(len)
}

/// Makes a hole in the file behind RAM, which takes the pages out of every mapping of it.
fn punch(file: &FileOffset, start: u64, len: u64) -> io::Result<()> {
    let offset = file.start().checked_add(start).and_then(|offset| offset.try_into().ok());
    let offset = offset.ok_or(io::ErrorKind::InvalidInput)?;
    let len = len.try_into().map_err(io::Error::other)?;
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    loop {
        match fallocate(file.file(), hole, offset, len) {
            Err(nix::Error::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// The size of the pages that the host gives and takes, bytes.
fn page_size(region: &Region) -> io::Result<u64> {
    if let Some(file) = region.file_offset() {
        let host = fstatfs(file.file())?;
        let huge = host.filesystem_type() == HUGETLBFS_MAGIC;
        return Ok(if huge { u64::try_from(host.block_size()).unwrap_or(HUGE) } else { PAGE });
    }
    if region.flags() & libc::MAP_HUGETLB == 0 {
        return Ok(PAGE);
    }
    let shift = region.flags() >> libc::MAP_HUGE_SHIFT & libc::MAP_HUGE_MASK;
    Ok(if shift == 0 { HUGE } else { 1 << shift })
}

#[cfg(test)]
mod tests;
