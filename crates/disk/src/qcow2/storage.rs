//! A file of the host as the library for the format wants it.
//!
//! The library declares what reads and writes `unsafe`, because it has promises of its own to keep
//! around these calls; to implement them, the word must be written. There is no unsafe operation
//! here.
#![expect(unsafe_code, reason = "the trait's methods are unsafe; no operation here is")]

use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use imago::{
    Storage,
    io_buffers::{IoVector, IoVectorMut},
    storage::drivers::CommonStorageHelper,
};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};

use crate::{contract, file};

/// A locked file, its bounds, and what the library keeps with it.
pub(super) struct Image {
    file: File,
    /// Reading up to a multiple of this is reading zeroes; beyond, the file has been cut short.
    grain: u64,
    /// Nothing is written from here on, bytes.
    limit: u64,
    /// What is noted when it is written, and where.
    watched: Option<(Range<u64>, Arc<AtomicBool>)>,
    common: CommonStorageHelper,
}

impl Image {
    pub(super) fn new(file: File, grain: u64, limit: u64) -> Self {
        Self { file, grain, limit, watched: None, common: CommonStorageHelper::default() }
    }

    /// Notes in `written` when anything in `place` is written.
    pub(super) fn watching(self, place: &Range<u64>, written: &Arc<AtomicBool>) -> Self {
        Self { watched: Some((place.clone(), Arc::clone(written))), ..self }
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest @ [_, ..]) = buf.get_mut(done..) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            match self.file.read_at(rest, at) {
                Ok(0) => return self.read_at_end(rest, at),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The last cluster of an image need not be there to its end.
    fn read_at_end(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let end = at.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        let len = file::len(&self.file)?;
        if end > len.next_multiple_of(self.grain) {
            let why =
                format!("an image of {len:#x} bytes has nothing at {at:#x}: was it cut short?");
            return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
        }
        buf.fill(0);
        Ok(())
    }

    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= self.limit) {
            return Ok(());
        }
        let why = format!("an image of at most {:#x} bytes has no place {offset:#x}", self.limit);
        Err(io::Error::new(ErrorKind::InvalidData, why))
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)?;
        let end = offset.saturating_add(len);
        if punch(&self.file, offset, len)? {
            if file::len(&self.file)? < end {
                self.file.set_len(end)?;
            }
            return Ok(());
        }
        contract::zero(offset, len, |data, at| self.file.write_all_at(data, at))
    }
}

/// Makes a range of `file` zeroes without room, as far as the file goes; whether the host can.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    let len = i64::try_from(len).map_err(io::Error::other)?;
    loop {
        return match fallocate(file, mode, offset, len) {
            _ if len == 0 => Ok(true),
            Ok(()) => Ok(true),
            Err(Errno::EINTR) => continue,
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(false),
            Err(error) => Err(error.into()),
        };
    }
}

impl Storage for Image {
    fn size(&self) -> io::Result<u64> {
        file::len(&self.file)
    }

    unsafe fn pure_readv(&self, bufv: IoVectorMut<'_>, mut offset: u64) -> io::Result<()> {
        for mut slice in bufv.into_inner() {
            self.read(&mut slice, offset)?;
            offset = offset.saturating_add(u64::try_from(slice.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    unsafe fn pure_writev(&self, bufv: IoVector<'_>, mut offset: u64) -> io::Result<()> {
        self.check(offset, bufv.len())?;
        if let Some((place, written)) = &self.watched
            && place.contains(&offset)
        {
            written.store(true, Ordering::Relaxed);
        }
        for slice in bufv.into_inner() {
            self.file.write_all_at(&slice, offset)?;
            offset = offset.saturating_add(u64::try_from(slice.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    unsafe fn pure_write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.zero(offset, length)
    }

    unsafe fn pure_discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check(offset, length)?;
        // Only a hint: room that the host cannot take back stays in use.
        punch(&self.file, offset, length).map(drop)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(()) // nothing is kept back from the host
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.common
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("file", &self.file).finish_non_exhaustive()
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.file)
    }
}
