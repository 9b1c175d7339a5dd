//! One system call about a stretch of the places.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use libc::{
    SYS_preadv, SYS_pwritev, SYS_read, SYS_readv, SYS_write, SYS_writev, c_long, iovec, off_t,
    syscall,
};
use smallvec::SmallVec;

use super::{Scatter, shortened};

/// The most pieces that one system call takes (`UIO_MAXIOV`).
pub(super) const MOST: usize = 1024;
/// This many pieces cost no allocation.
const FEW: usize = 32;

/// A part of the places of a [`Scatter`], for one system call (`readv(2)`).
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    scatter: &'a Scatter,
    place: usize,
    offset: usize,
    bytes: usize,
}

impl<'a> Stretch<'a> {
    pub(super) fn new(scatter: &'a Scatter, (place, offset): (usize, usize), bytes: usize) -> Self {
        Self { scatter, place, offset, bytes }
    }

    /// Fills the places from `fd`, in one system call: from `offset` on, or from where the file stands.
    /// How many bytes came; 0 is the file's end. What the kernel touched is marked dirty.
    ///
    /// # Errors
    /// The host's. More than 1024 places are `InvalidInput`.
    pub fn read_from(self, fd: BorrowedFd<'_>, offset: Option<u64>) -> io::Result<usize> {
        let (fd, offset) = (fd.as_raw_fd(), offset.map(offset_of).transpose()?);
        let done = self.with_list(None, |list| {
            // SAFETY: each piece lies in a mapping that the scatter keeps.
            unsafe { read(fd, list, offset) }
        })?;
        self.scatter.mark(self.place, self.offset, done.min(self.bytes));
        Ok(done)
    }

    /// As [`read_from`](Self::read_from) from where the file stands; what the places have no room for goes
    /// to `rest`. How many bytes came, all in all.
    ///
    /// # Errors
    /// The host's. More than 1023 places are `InvalidInput`.
    pub fn read_from_with(self, fd: BorrowedFd<'_>, rest: &mut [u8]) -> io::Result<usize> {
        let rest = iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
        let done = self.with_list((rest.iov_len > 0).then_some(rest), |list| {
            // SAFETY: the last piece may be `rest`, which nobody else has meanwhile; each other one lies
            // in a mapping that the scatter keeps.
            unsafe { read(fd.as_raw_fd(), list, None) }
        })?;
        self.scatter.mark(self.place, self.offset, done.min(self.bytes));
        Ok(done)
    }

    /// Writes the places to `fd`, in one system call: from `offset` on, or where the file stands. How
    /// many bytes went.
    ///
    /// # Errors
    /// The host's. More than 1024 places are `InvalidInput`.
    pub fn write_to(self, fd: BorrowedFd<'_>, offset: Option<u64>) -> io::Result<usize> {
        let (fd, offset) = (fd.as_raw_fd(), offset.map(offset_of).transpose()?);
        self.with_list(None, |list| {
            // SAFETY: each piece lies in a mapping that the scatter keeps.
            unsafe { write(fd, list, offset) }
        })
    }

    /// Calls `call` with the pieces, the first and the last one cut to what belongs to this, and `more`
    /// behind them.
    fn with_list<R>(self, more: Option<iovec>, call: impl FnOnce(&[iovec]) -> R) -> R {
        let pieces = self.scatter.pieces.get(self.place..).unwrap_or_default();
        // All of them as they are: the usual case.
        if (self.place, self.offset, self.bytes) == (0, 0, self.scatter.bytes) && more.is_none() {
            return call(pieces);
        }
        let (mut skip, mut left) = (self.offset, self.bytes);
        let mut list = SmallVec::<[iovec; FEW]>::new();
        for piece in pieces {
            let piece = shortened(*piece, std::mem::take(&mut skip));
            let iov_len = piece.iov_len.min(left);
            list.push(iovec { iov_len, ..piece });
            left -= iov_len;
            if left == 0 {
                break;
            }
        }
        list.extend(more);
        call(&list)
    }
}

/// # Safety
/// The kernel may write to each piece of `list` now.
unsafe fn read(fd: RawFd, list: &[iovec], offset: Option<off_t>) -> io::Result<usize> {
    let count = count(list)?;
    match (list, offset) {
        // SAFETY: the caller's promise.
        ([one], None) => call(|| unsafe { syscall(SYS_read, fd, one.iov_base, one.iov_len) }),
        // SAFETY: as above.
        (_, None) => call(|| unsafe { syscall(SYS_readv, fd, list.as_ptr(), count) }),
        (_, Some(at)) => {
            // SAFETY: as above.
            call(|| unsafe { syscall(SYS_preadv, fd, list.as_ptr(), count, at, 0_usize) })
        }
    }
}

/// # Safety
/// The kernel may read each piece of `list` now.
unsafe fn write(fd: RawFd, list: &[iovec], offset: Option<off_t>) -> io::Result<usize> {
    let count = count(list)?;
    match (list, offset) {
        // SAFETY: the caller's promise.
        ([one], None) => call(|| unsafe { syscall(SYS_write, fd, one.iov_base, one.iov_len) }),
        // SAFETY: as above.
        (_, None) => call(|| unsafe { syscall(SYS_writev, fd, list.as_ptr(), count) }),
        (_, Some(at)) => {
            // SAFETY: as above.
            call(|| unsafe { syscall(SYS_pwritev, fd, list.as_ptr(), count, at, 0_usize) })
        }
    }
}

fn count(list: &[iovec]) -> io::Result<usize> {
    let count = list.len();
    if count > MOST {
        let why = format!("{count} places in one system call; it takes {MOST}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(count)
}

fn offset_of(offset: u64) -> io::Result<off_t> {
    offset.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Makes a system call, again if a signal came first. One piece goes by the plain call, which is cheaper;
/// and all past the C library's functions, which make a thread ready to be cancelled each time.
fn call(mut call: impl FnMut() -> c_long) -> io::Result<usize> {
    loop {
        // Negative is the one thing that does not fit.
        if let Ok(done) = usize::try_from(call()) {
            return Ok(done);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
