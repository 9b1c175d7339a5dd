//! A file that goes into guest RAM.

use std::{
    fmt,
    fs::File,
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt},
};

use memory::{Bytes, GuestAddress, GuestMemory};
use vm_memory::GuestMemoryError;

/// Which of the payload's files is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel image",
            Self::Initrd => "initrd",
        })
    }
}

/// Why a file of the payload cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It is no regular file.
    #[error("{role} is a {kind}; expected a regular file")]
    NotAFile {
        /// Which file.
        role: Role,
        /// What it is instead.
        kind: &'static str,
    },
    /// It has no bytes.
    #[error("{role} is empty")]
    Empty {
        /// Which file.
        role: Role,
    },
    /// The host does not give the bytes.
    #[error("{len} bytes at offset {offset:#x} of the {role} cannot be read")]
    Read {
        /// Which file.
        role: Role,
        /// Offset in the file.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// What the host said.
        source: io::Error,
    },
    /// The bytes do not arrive in guest RAM.
    #[error("{len} bytes at offset {offset:#x} of the {role} cannot be put at {address:#x}")]
    Copy {
        /// Which file.
        role: Role,
        /// Offset in the file.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// Guest physical address.
        address: u64,
        /// What guest memory said.
        source: GuestMemoryError,
    },
}

/// A regular file that is not empty, with its length when it was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image<'a> {
    file: &'a File,
    role: Role,
    len: u64,
}

impl<'a> Image<'a> {
    pub(crate) fn new(file: &'a File, role: Role) -> Result<Self, ImageError> {
        let metadata = file.metadata().map_err(|source| ImageError::Read {
            role,
            offset: 0,
            len: 0,
            source,
        })?;
        let kind = metadata.file_type();
        if !kind.is_file() {
            let kind = if kind.is_dir() {
                "directory"
            } else if kind.is_char_device() || kind.is_block_device() {
                "device"
            } else {
                "pipe or socket"
            };
            return Err(ImageError::NotAFile { role, kind });
        }
        match metadata.len() {
            0 => Err(ImageError::Empty { role }),
            len => Ok(Self { file, role, len }),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads `bytes.len()` bytes at `offset`.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), ImageError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.file.read_exact_at(bytes, offset).map_err(|source| ImageError::Read {
            role: self.role,
            offset,
            len,
            source,
        })
    }

    /// Reads at most `most` bytes from the start, fewer if the file has fewer.
    pub(crate) fn head(&self, most: usize) -> Result<Vec<u8>, ImageError> {
        let len = usize::try_from(self.len).map_or(most, |len| len.min(most));
        let mut bytes = vec![0; len];
        self.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies `len` bytes at `offset` to guest physical `address`, straight from the file.
    pub(crate) fn copy(
        &self,
        memory: &GuestMemory,
        offset: u64,
        len: u64,
        address: u64,
    ) -> Result<(), ImageError> {
        let role = self.role;
        let read = |source| ImageError::Read { role, offset, len, source };
        let count =
            usize::try_from(len).map_err(|_| read(io::Error::from(io::ErrorKind::FileTooLarge)))?;
        let mut file = self.file;
        file.seek(SeekFrom::Start(offset)).map_err(read)?;
        memory
            .read_exact_volatile_from(GuestAddress(address), &mut file, count)
            .map_err(|source| ImageError::Copy { role, offset, len, address, source })
    }
}
