//! Raw images and block devices.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, fallocate},
};

use crate::{
    Access, Bytes, Disk, OpenError, SECTOR,
    contract::{check, zero},
    direct::Direct,
    file,
    qcow2::MAGIC,
};

/// A regular file or block device, whose bytes are the disk's. It is read and written by `pread` and
/// `pwrite` through the host's page cache, and locked as long as this exists.
#[derive(Debug)]
pub struct Raw {
    file: File,
    access: Access,
    len: u64,
    direct: Option<Direct>,
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
        let file = file::open(path, access, OFlag::empty())?;
        file::lock(&file, path, access)?;
        let failed = |source| OpenError::Open { path: path.into(), access, source };
        let len = file::len(&file).map_err(failed)?;
        if len == 0 || !len.is_multiple_of(SECTOR) {
            let path = path.into();
            return Err(match begins_as_qcow2(&file) {
                Ok(true) => OpenError::Qcow2 { path, len },
                _ => OpenError::Size { path, len },
            });
        }
        Ok(Self { file, access, len, direct: None })
    }

    /// From now on past the host's page cache (`O_DIRECT`): what is read comes from the storage, what
    /// is written is there at once, if not yet safe from a power cut. What is not aligned as the
    /// storage wants it goes through a buffer.
    ///
    /// # Errors
    /// The file system or the size of the image does not allow it.
    pub fn direct(self) -> io::Result<Self> {
        let direct = Direct::new(&self.file)?;
        let block = u64::try_from(direct.align()).unwrap_or(u64::MAX);
        if !self.len.is_multiple_of(block) {
            let why = format!("past the page cache, its size must be a multiple of {block}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self { direct: Some(direct), ..self })
    }

    fn write_all(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        match &mut self.direct {
            Some(direct) => direct.write(&self.file, data, offset),
            None => self.file.write_all_at(data, offset),
        }
    }

    /// Whether the first bytes are those of a qcow2 image. The guest may have written them: a disk
    /// that is to be a raw one stays one, but whoever was not told so should ask, not guess.
    ///
    /// # Errors
    /// The host cannot read it.
    pub fn begins_as_qcow2(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4];
        self.read_at(0, &mut bytes)?;
        Ok(bytes == MAGIC.to_be_bytes())
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
}

fn begins_as_qcow2(file: &File) -> io::Result<bool> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes == MAGIC.to_be_bytes())
}

const HOLE: FallocateFlags =
    FallocateFlags::FALLOC_FL_PUNCH_HOLE.union(FallocateFlags::FALLOC_FL_KEEP_SIZE);

impl Disk for Raw {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX), self.len)?;
        match &mut self.direct {
            Some(direct) => direct.read(&self.file, buf, offset),
            None => self.file.read_exact_at(buf, offset),
        }
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_write(offset, u64::try_from(data.len()).unwrap_or(u64::MAX))?;
        self.write_all(data, offset)
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
        zero(offset, len, |data, at| self.write_all(data, at))
    }

    fn file(&self) -> Option<Bytes<'_>> {
        let align = self.direct.as_ref().map_or(1, Direct::align);
        Some(Bytes { fd: self.file.as_fd(), align })
    }

    fn refresh(&mut self) -> io::Result<u64> {
        let len = file::len(&self.file)?;
        // Past the page cache, there are whole blocks only.
        let block = self.direct.as_ref().and_then(|direct| u64::try_from(direct.align()).ok());
        let block = block.unwrap_or(SECTOR).max(SECTOR);
        if len < block {
            let why = format!("the image has {len} bytes left, which is less than {block}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.len = len - len % block;
        Ok(self.len)
    }
}

/// The open file. The lock is its own: a duplicate keeps it.
impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    #[test]
    fn past_the_page_cache_a_disk_is_whole_blocks_whatever_the_file_grows_to() {
        let file = File::from(memfd_create(c"disk", MFdFlags::empty()).unwrap());
        let direct = Some(Direct::with_blocks(4096));
        let mut disk = Raw { file, access: Access::ReadWrite, len: 4096, direct };
        disk.file.set_len(3 * 4096 - 512).unwrap();
        assert_eq!(disk.refresh().unwrap(), 2 * 4096);
        disk.read_at(2 * 4096 - 512, &mut [0; 512]).unwrap();
        disk.file.set_len(4096 - 512).unwrap();
        assert!(disk.refresh().is_err());
        assert_eq!(disk.len(), 2 * 4096);
    }

    #[test]
    fn a_full_host_is_an_error() {
        let file = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut disk = Raw { file, access: Access::ReadWrite, len: 1 << 20, direct: None };
        let error = disk.write_at(0, &[1; 512]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        // No holes in a device: zeroes must be written, which is refused as well.
        let error = zero(0, 4096, |data, at| disk.file.write_all_at(data, at)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
