//! What a disk is.

use std::io;

/// Bytes in a sector. Every disk is a whole number of them.
pub const SECTOR: u64 = 512;

/// A disk: bytes that last, in a fixed number.
///
/// Offsets and lengths are bytes. A call that reaches beyond [`len`](Disk::len) fails with
/// [`InvalidInput`](io::ErrorKind::InvalidInput) and changes nothing; after any other error, the
/// bytes it was about may be old, new or a mixture. Calls return when they are done.
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

    /// The disk's size in bytes, a multiple of [`SECTOR`].
    fn len(&self) -> u64;

    /// Whether there is no room at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

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
}

/// Whether `count` bytes from `offset` on lie on a disk of `len` bytes.
pub(crate) fn check(offset: u64, count: u64, len: u64) -> io::Result<()> {
    if offset.checked_add(count).is_some_and(|end| end <= len) {
        return Ok(());
    }
    let why = format!("{count} bytes at {offset:#x} are not on a disk of {len:#x} bytes");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}
