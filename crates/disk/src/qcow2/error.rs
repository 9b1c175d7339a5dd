//! Why a qcow2 image, or what is behind it, cannot be used.

use std::{io, path::PathBuf};

use crate::OpenError;

/// Why a file is not a qcow2 image that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Another format, or none.
    #[error("it does not begin as a qcow2 image does; perhaps it is a raw one")]
    Magic,
    /// From the past or the future.
    #[error("it is of version {0} of the format; versions 2 and 3 can be used")]
    Version(u32),
    /// Needs a key.
    #[error("it is encrypted; `qemu-img convert` makes an image that is not")]
    Encrypted,
    /// Its tables may be wrong.
    #[error("it is marked as {0}; `qemu-img check -r all` repairs it")]
    Damaged(&'static str),
    /// Needs something that is not supported.
    #[error(
        "it needs {what} (incompatible feature {bit}), which is not supported; `qemu-img convert -O qcow2` makes an image that does not"
    )]
    Feature {
        /// What it is called.
        what: &'static str,
        /// The number of the bit.
        bit: u32,
    },
    /// A field of the header makes no sense.
    #[error("{what} is {value:#x}; it must be {right}")]
    Field {
        /// Which field.
        what: &'static str,
        /// What it holds.
        value: u64,
        /// What it may hold.
        right: &'static str,
    },
    /// A table leads to where it must not.
    #[error(
        "{what} at cluster {cluster:#x} is outside of the image, used twice, or not counted; \
         `qemu-img check -r all` repairs what can be, and it can be opened for reading only"
    )]
    Table {
        /// What lies there.
        what: &'static str,
        /// Which cluster.
        cluster: u64,
    },
    /// The library that reads the format refuses it, or the host cannot read it.
    #[error("its tables cannot be read")]
    Read(#[source] io::Error),
}

/// Why an image cannot have the image behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackingError {
    /// None was allowed.
    #[error(
        "it is backed by {name:?}, and no backing image was allowed; allow it, or make an image \
         that stands alone with `qemu-img convert -O qcow2`"
    )]
    Refused {
        /// As the image has it.
        name: String,
    },
    /// Not one that was allowed.
    #[error("it is backed by {found:?}, which is not {allowed:?} and not in it")]
    Outside {
        /// Where the name leads, symbolic links followed.
        found: PathBuf,
        /// What was allowed.
        allowed: PathBuf,
    },
    /// What was allowed is not there.
    #[error(
        "it is backed by {name:?}, and backing images were allowed from {allowed:?}, which cannot \
         be found"
    )]
    Nowhere {
        /// As the image has it.
        name: String,
        /// What was allowed.
        allowed: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The image does not say what format the one behind it has; guessing would let whoever wrote
    /// the latter decide.
    #[error(
        "it does not say which format its backing image {name:?} has; \
         `qemu-img rebase -u -b {name} -F raw` or `-F qcow2` says so"
    )]
    NoFormat {
        /// As the image has it.
        name: String,
    },
    /// Another format.
    #[error("its backing image {name:?} is in format {format:?}; it must be `raw` or `qcow2`")]
    Format {
        /// As the image has it.
        name: String,
        /// As the image has it.
        format: String,
    },
    /// An image is behind itself.
    #[error("its backing image {found:?} is in front of it already: the chain of images is a loop")]
    Loop {
        /// The image that appears twice.
        found: PathBuf,
    },
    /// Too many images.
    #[error(
        "it is the {0}th image of a chain and is backed by another one; `qemu-img commit` or `qemu-img rebase` makes a shorter chain"
    )]
    Long(usize),
    /// There is none.
    #[error("its backing image {name:?} cannot be found")]
    Missing {
        /// As the image has it.
        name: String,
        /// What the host said.
        source: io::Error,
    },
    /// It cannot be opened, or not used.
    #[error("its backing image cannot be used")]
    Open(#[source] Box<OpenError>),
}
