//! Packets by a bare loop: what a network card on a tap is measured against.
#![expect(unsafe_code, reason = "the kernel is handed pointers")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use libc::{c_int, iovec};
use memory::Scatter;

/// Reads `count` packets from `tap` into `places`, from the first on and around, each as long as its place.
///
/// The memory is named by one of our crates, so that both sides have the same; a packet in one piece goes
/// by `read`.
///
/// # Errors
/// The host's, or a packet has another length.
pub fn receive(tap: BorrowedFd<'_>, places: &[Scatter], count: u16) -> io::Result<()> {
    let fd = tap.as_raw_fd();
    each(places, count, |pieces, len| match pieces {
        // SAFETY: the piece lies in RAM that `places` keeps.
        [one] => unsafe { libc::read(fd, one.iov_base, one.iov_len) },
        // SAFETY: as above, for each of them.
        _ => unsafe { libc::readv(fd, pieces.as_ptr(), len) },
    })
}

/// Sends what is in `places` to `tap`, from the first on and around, `count` packets.
///
/// # Errors
/// The host's, or a packet is not sent whole.
pub fn send(tap: BorrowedFd<'_>, places: &[Scatter], count: u16) -> io::Result<()> {
    let fd = tap.as_raw_fd();
    each(places, count, |pieces, len| match pieces {
        // SAFETY: the piece lies in RAM that `places` keeps.
        [one] => unsafe { libc::write(fd, one.iov_base, one.iov_len) },
        // SAFETY: as above, for each of them.
        _ => unsafe { libc::writev(fd, pieces.as_ptr(), len) },
    })
}

fn each(places: &[Scatter], count: u16, call: impl Fn(&[iovec], c_int) -> isize) -> io::Result<()> {
    for place in places.iter().cycle().take(count.into()) {
        let pieces = place.pieces();
        let len = c_int::try_from(pieces.len()).map_err(io::Error::other)?;
        let done = usize::try_from(call(pieces, len)).map_err(|_| io::Error::last_os_error())?;
        if done != place.bytes() {
            let len = place.bytes();
            return Err(io::Error::other(format!("{done} bytes of a packet of {len}")));
        }
    }
    Ok(())
}
