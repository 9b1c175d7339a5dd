//! Opening an image: with which access, and why not.

use std::{fmt, io, path::PathBuf};

use crate::{BackingError, FormatError};

/// What is to be done with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading; others may read the image at the same time.
    ReadOnly,
    /// Reading and writing; nobody else may use the image.
    ReadWrite,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "reading",
            Self::ReadWrite => "reading and writing",
        })
    }
}

/// Why an image cannot be a disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The host does not open it.
    #[error("cannot open disk image {path:?} for {access}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What for.
        access: Access,
        /// What the host said.
        source: io::Error,
    },
    /// Neither a regular file nor a block device.
    #[error("disk image {path:?} is neither a regular file nor a block device")]
    Kind {
        /// Which file.
        path: PathBuf,
    },
    /// The host has it for reading only.
    #[error(
        "disk image {path:?} can be read but not written; open it read-only, or make it writable"
    )]
    ReadOnly {
        /// Which file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// Someone else holds a lock on it.
    #[error(
        "disk image {path:?} is in use and cannot be locked for {access}: another disk of this \
         machine, another virtual machine (Purlin, QEMU, Cloud Hypervisor) or an image tool has it \
         open; stop that one, or open the image read-only in both"
    )]
    Locked {
        /// Which file.
        path: PathBuf,
        /// What for.
        access: Access,
    },
    /// The host cannot lock it.
    #[error("cannot lock disk image {path:?}; its file system must support file locks")]
    Lock {
        /// Which file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The size is not one that a disk can have.
    #[error("disk image {path:?} has {len} bytes; it must be a positive multiple of 512")]
    Size {
        /// Which file.
        path: PathBuf,
        /// Its size.
        len: u64,
    },
    /// A qcow2 image that was opened as a raw one, and does not even have the size of one.
    #[error(
        "disk image {path:?} begins as a qcow2 image does and has {len} bytes; open it as a qcow2 \
         image, or give it the size of a raw one, a positive multiple of 512"
    )]
    Qcow2 {
        /// Which file.
        path: PathBuf,
        /// Its size.
        len: u64,
    },
    /// It is not an image of the format that it was opened as.
    #[error("disk image {path:?} cannot be used as a qcow2 image")]
    Format {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: FormatError,
    },
    /// The image behind it cannot be used.
    #[error("disk image {path:?} cannot be used without the image behind it")]
    Backing {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: BackingError,
    },
}
