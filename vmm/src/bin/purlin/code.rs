//! The pages of the program's own code. The binary's only unsafe code: `madvise` on them.
#![expect(
    unsafe_code,
    reason = "madvise has no safe wrapper; the pages are the program's own file"
)]

use std::io;

use rustix::mm::{Advice, madvise};

// Defined by the linker (ld(1), end(3)): where the program begins, and where its code ends.
unsafe extern "C" {
    static __executable_start: u8;
    static etext: u8;
}

/// Unmaps the program's code: most of it has run its course once the guest runs, and what is still
/// needed comes back from the page cache as it is called. It saves memory beside each guest, about a
/// megabyte, for some microseconds.
///
/// # Errors
/// The host refuses; nothing has changed.
pub(crate) fn let_go() -> io::Result<()> {
    let page = rustix::param::page_size();
    let (start, end) = (&raw const __executable_start, &raw const etext);
    let first = start.addr().next_multiple_of(page);
    let len = (end.addr() & !(page - 1)).saturating_sub(first);
    let pages = start.wrapping_add(first - start.addr());
    // SAFETY: the range lies in the file-backed, read-only mappings of this program, which nobody
    // writes to: it is position-independent, without relocations in its code. So every page reads the
    // same when it is mapped again.
    let result = unsafe { madvise(pages.cast_mut().cast(), len, Advice::LinuxDontNeed) };
    Ok(result?)
}
