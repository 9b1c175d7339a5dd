//! qcow2 images, with images behind them.

mod chain;
mod consistency;
mod error;
mod header;
mod storage;

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, Mapping};

pub use chain::Backing;
use chain::Link;
pub use error::{BackingError, FormatError};
pub(crate) use header::MAGIC;
use storage::Image;

use crate::{
    Access, Disk, OpenError, SECTOR,
    contract::{check, zero},
    file,
};

/// A disk in a qcow2 image of version 2 or 3, perhaps with other images behind it, read and written
/// through the `imago` library.
///
/// All images of the chain are locked as long as this exists: the first as [`Access`] says, those
/// behind it shared. Tables of the image are cached, so what was written is in the file only after a
/// [`flush`](Disk::flush), or when this is dropped. At most 160 clusters (10 MiB where they have the
/// usual 64 KiB) and the first-level table are kept for each image.
pub struct Qcow2 {
    image: FormatAccess<Image>,
    /// The first image, the only one that is written.
    file: File,
    /// Whether its first-level table has been written since its caches were.
    tables: Arc<AtomicBool>,
    /// Bytes in a cluster of it.
    cluster: u64,
    len: u64,
    access: Access,
}

impl Qcow2 {
    /// Opens and locks the image at `path` and those behind it, as far as `backing` allows.
    ///
    /// # Errors
    /// One of them cannot be opened or locked, is not allowed, does not say its format, or is
    /// damaged, encrypted or otherwise not usable; the chain is a loop, or has more than 16 images.
    pub fn open(
        path: impl AsRef<Path>,
        access: Access,
        backing: &Backing,
    ) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let mut chain = chain::open(path, access, backing)?;
        let first = chain.first().and_then(|link| Some((&link.file, link.header.as_ref()?)));
        let Some((file, header)) = first else { return Err(OpenError::Kind { path: path.into() }) };
        let (len, cluster) = (header.len, header.cluster);
        let failed = |source| OpenError::Open { path: path.into(), access, source };
        let file = file.try_clone().map_err(failed)?;
        let tables = Arc::<AtomicBool>::default();
        let mut behind = None;
        while let Some(link) = chain.pop() {
            let write = chain.is_empty() && access == Access::ReadWrite;
            behind = Some(assemble(link, (write, &tables), behind)?);
        }
        let Some(image) = behind else { return Err(OpenError::Kind { path: path.into() }) };
        Ok(Self { image, file, tables, cluster, len, access })
    }

    /// Gives up whole clusters, and their room in the file if nobody else has it.
    fn give_up(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let end = (offset.saturating_add(len) / self.cluster).saturating_mul(self.cluster);
        let mut at = offset.next_multiple_of(self.cluster);
        while at < end {
            let (mapping, len) = self.image.get_mapping(at, end - at)?;
            // Whole clusters, whatever the library says of images behind.
            let len = len.max(self.cluster).min(end - at);
            let place = match mapping {
                // Behind the first image, nothing can be written.
                Mapping::Raw { offset, writable: true, .. } => Some(offset),
                _ => None,
            };
            self.image.discard_to_any(at, len)?;
            let now = self.image.get_mapping(at, len)?;
            if let (Some(place), (Mapping::Zero { .. }, left)) = (place, now)
                && left >= len
            {
                // The library keeps the room for clusters to come; until then it is the host's.
                storage::punch(&self.file, place, len)?;
            }
            at = at.saturating_add(len);
        }
        Ok(())
    }

    /// Has a new table counted that the last call may have made: better not to be killed before.
    fn settle(&self) -> io::Result<()> {
        if self.tables.swap(false, Ordering::Relaxed) { self.image.flush() } else { Ok(()) }
    }

    fn check_write(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.is_read_only() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        check(offset, len, self.len)
    }
}

/// The image of `link` in front of `behind`. Nothing that it names is opened from here on.
fn assemble(
    link: Link,
    (write, tables): (bool, &Arc<AtomicBool>),
    behind: Option<FormatAccess<Image>>,
) -> Result<FormatAccess<Image>, OpenError> {
    let Link { path, file, header } = link;
    let wrong = |error| OpenError::Format { path: path.clone(), source: FormatError::Read(error) };
    let size = file::len(&file).map_err(wrong)?;
    let gate = DenyImplicitOpenGate::default();
    let Some(header) = header else {
        let raw = imago::raw::Raw::builder(Image::new(file, SECTOR, 0));
        return raw.open(gate).map(FormatAccess::new).map_err(wrong);
    };
    if write {
        let wrong = |source| OpenError::Format { path: path.clone(), source };
        let counted = consistency::check(&file, &header, size).map_err(wrong)?;
        if counted > 0 {
            let path = path.display();
            log::warn!("disk image {path} was not closed properly: {counted} clusters are counted");
        }
    }
    let image = Image::new(file, header.cluster, limit(&header, size)).watching(&header.l1, tables);
    let qcow2 = imago::qcow2::Qcow2::builder(image).write(write);
    let qcow2 = qcow2.data_file(None).backing(behind).open(gate).map_err(wrong)?;
    Ok(FormatAccess::new(qcow2))
}

/// How far an image may grow: what it has, all of the disk, a table entry and a reference count of 8
/// bytes for each cluster of it, and room for these tables to be moved.
fn limit(header: &header::Header, size: u64) -> u64 {
    let tables = (header.len / header.cluster).saturating_mul(16);
    size.saturating_add(header.len).saturating_add(tables).saturating_add(128 << 20)
}

impl Disk for Qcow2 {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX), self.len)?;
        self.image.read(buf, offset)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_write(offset, u64::try_from(data.len()).unwrap_or(u64::MAX))?;
        self.image.write(data, offset)?;
        self.settle()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        self.image.flush()?;
        self.image.sync()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.check_write(offset, len)?;
        match self.give_up(offset, len) {
            // Version 2 has no way to say so.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.check_write(offset, len)?;
        let result = match unmap {
            true => self.image.discard_to_zero(offset, len),
            false => self.image.write_zeroes(offset, len),
        };
        match result {
            // Version 2 has no way to say so.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                zero(offset, len, |data, at| self.image.write(data, at))?;
            }
            result => result?,
        }
        self.settle()
    }
}

impl fmt::Debug for Qcow2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qcow2")
            .field("len", &self.len)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
