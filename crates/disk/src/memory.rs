//! A disk without a file.

use std::{fmt, io};

use crate::{Disk, SECTOR, contract::check};

/// A disk in the host's memory, for tests, measurements, and data that may go with the machine.
pub struct Memory(Vec<u8>);

impl Memory {
    /// A disk of `sectors` sectors, all zeroes.
    ///
    /// # Errors
    /// The host has no room for it.
    pub fn new(sectors: u64) -> io::Result<Self> {
        let len = sectors.checked_mul(SECTOR).and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or(io::ErrorKind::OutOfMemory)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        Ok(Self(bytes))
    }

    fn range(&mut self, offset: u64, len: u64) -> io::Result<&mut [u8]> {
        check(offset, len, self.len())?;
        let end = offset.saturating_add(len);
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let bytes = range.and_then(|(offset, end)| self.0.get_mut(offset..end));
        bytes.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

impl Disk for Memory {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        self.range(offset, len).map(|bytes| buf.copy_from_slice(bytes))
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.range(offset, len).map(|bytes| bytes.copy_from_slice(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.write_zeroes(offset, len, true)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, _unmap: bool) -> io::Result<()> {
        self.range(offset, len).map(|bytes| bytes.fill(0))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_in_memory_keeps_what_is_written() {
        let mut disk = Memory::new(2).unwrap();
        disk.write_at(1, b"abc").unwrap();
        disk.write_zeroes(2, 1, false).unwrap();
        let mut read = [9; 5];
        disk.read_at(0, &mut read).unwrap();
        assert_eq!(&read, b"\0a\0c\0");
        disk.discard(0, 1024).unwrap();
        disk.read_at(0, &mut read).unwrap();
        assert_eq!(read, [0; 5]);
        assert_eq!((disk.len(), disk.is_read_only()), (1024, false));
    }

    #[test]
    fn nothing_is_beyond_its_end() {
        let mut disk = Memory::new(1).unwrap();
        for offset in [510, 512, u64::MAX - 1, u64::MAX] {
            assert!(disk.read_at(offset, &mut [0; 3]).is_err(), "reads at {offset}");
            assert!(disk.write_at(offset, &[1; 3]).is_err(), "writes at {offset}");
            assert!(disk.discard(offset, 3).is_err(), "discards at {offset}");
        }
        assert!(Memory::new(u64::MAX).is_err());
    }
}
