//! What the kernel is told about the mappings: `madvise` on regions that this crate has mapped itself.
#![expect(unsafe_code, reason = "madvise has no safe wrapper; the regions are ours")]

use std::io;

use vm_memory::{GuestMemoryRegion, MemoryRegionAddress};

use crate::Region;

/// Asks for transparent huge pages (`MADV_HUGEPAGE`).
pub(crate) fn huge_pages(region: &Region) -> io::Result<()> {
    advise(region, libc::MADV_HUGEPAGE)
}

/// Refuses them (`MADV_NOHUGEPAGE`).
pub(crate) fn small_pages(region: &Region) -> io::Result<()> {
    advise(region, libc::MADV_NOHUGEPAGE)
}

/// Faults every page in, writable (`MADV_POPULATE_WRITE`, Linux 5.14).
pub(crate) fn populate(region: &Region) -> io::Result<()> {
    advise(region, libc::MADV_POPULATE_WRITE)
}

/// Takes the pages of `len` bytes from `offset` of `region` on (`MADV_DONTNEED`): they read as what is
/// behind a private mapping, zeroes if there is no file.
pub(crate) fn drop_pages(region: &Region, offset: u64, len: usize) -> io::Result<()> {
    advise_range(region, offset, len, libc::MADV_DONTNEED)
}

fn advise(region: &Region, advice: libc::c_int) -> io::Result<()> {
    let len = usize::try_from(region.len()).map_err(io::Error::other)?;
    advise_range(region, 0, len, advice)
}

fn advise_range(region: &Region, offset: u64, len: usize, advice: libc::c_int) -> io::Result<()> {
    let range = region.get_slice(MemoryRegionAddress(offset), len).map_err(io::Error::other)?;
    let start = range.ptr_guard_mut().as_ptr().cast::<libc::c_void>();
    loop {
        // SAFETY: `start` and `len` were checked to lie in a mapping that `region` owns and keeps while
        // we borrow it. What an advice may do to the bytes, the guest may do at any time: they are
        // reached by volatile access only.
        if unsafe { libc::madvise(start, len, advice) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
