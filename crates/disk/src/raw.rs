//! Raw images and block devices.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, fallocate},
};

use crate::{Access, Disk, OpenError, SECTOR, contract::check, lock::lock};

/// What zeroes are written from where the host cannot make them itself.
static ZEROES: [u8; 16 << 10] = [0; 16 << 10];

/// A regular file or block device, whose bytes are the disk's. It is read and written by `pread` and
/// `pwrite` through the host's page cache, and locked as long as this exists.
#[derive(Debug)]
pub struct Raw {
    file: File,
    access: Access,
    len: u64,
}

impl Raw {
    /// Opens and locks the image at `path`, against everyone for writing, against writers for
    /// reading. Its size is that of now.
    ///
    /// # Errors
    /// It cannot be opened or locked, someone else uses it, or its size is not a positive multiple
    /// of 512.
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let failed = |source| OpenError::Open { path: path.into(), access, source };
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::ReadWrite);
        // A pipe without a writer must not keep us waiting.
        options.custom_flags(OFlag::O_NONBLOCK.bits());
        let mut file = options.open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::Kind { path: path.into() });
        }
        let locked = lock(&file, access);
        if !locked.map_err(|source| OpenError::Lock { path: path.into(), source })? {
            return Err(OpenError::Locked { path: path.into(), access });
        }
        // The metadata of a block device does not have its size.
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if len == 0 || !len.is_multiple_of(SECTOR) {
            return Err(OpenError::Size { path: path.into(), len });
        }
        Ok(Self { file, access, len })
    }

    fn check_write(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.is_read_only() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        check(offset, len, self.len)
    }

    /// Whether the host has done `mode` to the range; `false` if it never does.
    fn allocate(&self, mode: FallocateFlags, offset: u64, len: u64) -> io::Result<bool> {
        if len == 0 {
            return Ok(true);
        }
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        let len = i64::try_from(len).map_err(io::Error::other)?;
        loop {
            return match fallocate(&self.file, mode, offset, len) {
                Ok(()) => Ok(true),
                Err(Errno::EINTR) => continue,
                // The range was checked, so `EINVAL` is about a block device's larger blocks.
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(false),
                Err(error) => Err(error.into()),
            };
        }
    }

    fn fill(&self, mut offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len);
        while offset < end {
            let step = usize::try_from(end - offset).unwrap_or(usize::MAX).min(ZEROES.len());
            self.file.write_all_at(ZEROES.get(..step).unwrap_or_default(), offset)?;
            offset += u64::try_from(step).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}

const HOLE: FallocateFlags =
    FallocateFlags::FALLOC_FL_PUNCH_HOLE.union(FallocateFlags::FALLOC_FL_KEEP_SIZE);

impl Disk for Raw {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX), self.len)?;
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_write(offset, u64::try_from(data.len()).unwrap_or(u64::MAX))?;
        self.file.write_all_at(data, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.check_write(offset, len)?;
        // Only a hint: room that the host cannot take back stays in use.
        self.allocate(HOLE, offset, len).map(drop)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.check_write(offset, len)?;
        let mode = if unmap { HOLE } else { FallocateFlags::FALLOC_FL_ZERO_RANGE };
        if self.allocate(mode, offset, len)? {
            return Ok(());
        }
        self.fill(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_host_is_an_error() {
        let file = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let mut disk = Raw { file, access: Access::ReadWrite, len: 1 << 20 };
        let error = disk.write_at(0, &[1; 512]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        // No holes in a device: zeroes must be written, which is refused as well.
        let error = disk.fill(0, 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
