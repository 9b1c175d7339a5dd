//! The file behind a device.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use disk::{Access, Disk, OpenError, Raw};
use memory::Backing;

/// The size of an image is a multiple of this, bytes: guests map persistent memory in pieces of
/// 2 MiB, and with huge pages.
pub const UNIT: u64 = 2 << 20;

/// An image: a regular file or block device, locked as long as this or memory made of it exists.
#[derive(Debug)]
pub struct Image {
    raw: Raw,
    file: File,
    /// It was found shorter than it was.
    cut: bool,
}

/// Why a file cannot be the memory of a guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be opened or is in use.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its size is not a multiple of [`UNIT`].
    #[error(
        "persistent memory {path:?} has {len} bytes; it must be a multiple of 2 MiB: zeroes up to \
         {} bytes would make it one (`truncate -s`)",
        len.next_multiple_of(UNIT)
    )]
    Size {
        /// Which file.
        path: PathBuf,
        /// Its size.
        len: u64,
    },
    /// The host gives no second descriptor for it.
    #[error("the host gives no second descriptor for persistent memory {path:?}")]
    Descriptor {
        /// Which file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

impl Image {
    /// Opens and locks the image at `path`: against everyone for reading and writing, against
    /// writers for reading.
    ///
    /// # Errors
    /// It cannot be opened or locked, someone else uses it, or its size is not a positive multiple
    /// of 2 MiB.
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let raw = Raw::open(path, access)?;
        let len = raw.len();
        if !len.is_multiple_of(UNIT) {
            return Err(ImageError::Size { path: path.into(), len });
        }
        let failed = |source| ImageError::Descriptor { path: path.into(), source };
        let file = raw.as_fd().try_clone_to_owned().map_err(failed)?.into();
        Ok(Self { raw, file, cut: false })
    }

    /// Size, bytes, as it was when the image was opened.
    #[expect(clippy::len_without_is_empty, reason = "an image is never empty")]
    pub fn len(&self) -> u64 {
        self.raw.len()
    }

    /// Whether the image is open for reading only.
    pub fn is_read_only(&self) -> bool {
        self.raw.is_read_only()
    }

    /// What guest memory over this image is made of: the file itself, which a guest must not write to
    /// if it is open for reading.
    ///
    /// # Errors
    /// The host gives no descriptor.
    pub fn backing(&self) -> io::Result<Backing> {
        let file = self.file.try_clone()?;
        Ok(if self.is_read_only() { Backing::ReadOnly(file) } else { Backing::Shared(file) })
    }

    /// Makes what was written to memory last.
    ///
    /// # Errors
    /// The host's, or the file has become shorter: what was beyond its end is lost.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.raw.flush()?;
        let now = self.file.metadata()?;
        if now.is_file() && now.len() < self.len() {
            let (now, len) = (now.len(), self.len());
            self.cut = true;
            return Err(io::Error::other(format!(
                "the file was cut from {len} to {now} bytes while a guest has it"
            )));
        }
        if self.cut {
            return Err(io::Error::other("the file was cut while a guest has it; boot it again"));
        }
        Ok(())
    }
}
