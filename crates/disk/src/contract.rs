//! What a disk is.

use std::{io, os::fd::BorrowedFd};

/// Bytes in a sector. Every disk is a whole number of them.
pub const SECTOR: u64 = 512;

/// A file with the bytes of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    /// The file.
    pub fd: BorrowedFd<'a>,
    /// Offsets, lengths and places in memory of what is read and written are multiples of this, a
    /// power of two; 1 if they may be any.
    pub align: usize,
}

/// A disk: bytes that last, in a fixed number.
///
/// Offsets and lengths are bytes. A call that reaches beyond [`len`](Disk::len) fails with
/// [`InvalidInput`](io::ErrorKind::InvalidInput) and changes nothing; after any other error, the
/// bytes it was about may be old, new or a mixture. Calls return when they are done.
#[expect(clippy::len_without_is_empty, reason = "a disk has at least one sector")]
pub trait Disk: Send {
    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// The range is not on the disk, or the host cannot read it.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` from `offset` on. It is seen by reads at once, and outlives the host
    /// after the next [`flush`](Disk::flush).
    ///
    /// # Errors
    /// The range is not on the disk, the disk is read-only or full, or the host cannot write.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Returns when everything that was written before would survive a power cut.
    ///
    /// # Errors
    /// The host cannot say so; something written before may be lost.
    fn flush(&mut self) -> io::Result<()>;

    /// The disk's size in bytes, a positive multiple of [`SECTOR`]. Only [`refresh`](Disk::refresh)
    /// changes it.
    fn len(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;

    /// The content of `len` bytes from `offset` on is no longer needed, and may be anything from
    /// now on. A disk that cannot give room back does nothing.
    ///
    /// # Errors
    /// The range is not on the disk, or the disk is read-only, or the host fails.
    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes `len` bytes from `offset` on read as zeroes; with `unmap`, the room for them may be
    /// given back.
    ///
    /// # Errors
    /// As for [`write_at`](Disk::write_at).
    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()>;

    /// The file that has the disk's bytes, each at its own offset, if there is one: whoever has it
    /// may read and write it up to [`len`](Disk::len) instead of calling this, as long as the disk
    /// is open.
    fn file(&self) -> Option<Bytes<'_>> {
        None
    }

    /// Looks at the host again: the size that the disk has from now on, whole sectors.
    ///
    /// # Errors
    /// The host cannot say, or there is less than a sector; the size stays as it was.
    fn refresh(&mut self) -> io::Result<u64> {
        Ok(self.len())
    }
}

/// Whether `count` bytes from `offset` on lie on a disk of `len` bytes.
pub(crate) fn check(offset: u64, count: u64, len: u64) -> io::Result<()> {
    if offset.checked_add(count).is_some_and(|end| end <= len) {
        return Ok(());
    }
    let why = format!("{count} bytes at {offset:#x} are not on a disk of {len:#x} bytes");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Calls `write` with zeroes and where they go, for all of `len` bytes from `offset` on.
pub(crate) fn zero(
    mut offset: u64,
    len: u64,
    mut write: impl FnMut(&'static [u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    static ZEROES: [u8; 16 << 10] = [0; 16 << 10];
    let end = offset.saturating_add(len);
    while offset < end {
        let step = usize::try_from(end - offset).unwrap_or(usize::MAX).min(ZEROES.len());
        write(ZEROES.get(..step).unwrap_or_default(), offset)?;
        offset += u64::try_from(step).unwrap_or(u64::MAX);
    }
    Ok(())
}
