//! What the kernel is told about the mappings. The crate's only unsafe code: `madvise` on whole
//! regions that this crate has mapped itself.
#![expect(unsafe_code, reason = "madvise has no safe wrapper; the regions are ours and whole")]

use std::io;

use vm_memory::GuestMemoryRegion;

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

fn advise(region: &Region, advice: libc::c_int) -> io::Result<()> {
    let len = usize::try_from(region.len()).map_err(io::Error::other)?;
    let start = region.as_ptr().cast::<libc::c_void>();
    loop {
        // SAFETY: `start` and `len` are those of a mapping that `region` owns and keeps while we
        // borrow it, and no advice used here changes what the memory holds.
        if unsafe { libc::madvise(start, len, advice) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
