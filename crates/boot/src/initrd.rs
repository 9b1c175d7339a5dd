//! The initial RAM disk.

use std::fs::File;

use memory::GuestMemory;

use crate::{
    ImageError,
    image::{Image, Role},
};

/// Why the initrd cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitrdError {
    /// The file cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It does not fit beside the kernel.
    #[error(
        "the initrd of {len} bytes does not fit: between the kernel's end at {kernel_end:#x} and \
         {limit:#x} there are {room} bytes"
    )]
    TooLarge {
        /// Length of the initrd, bytes.
        len: u64,
        /// Where the kernel's working space ends.
        kernel_end: u64,
        /// Where RAM, or what the kernel can reach, ends (exclusive).
        limit: u64,
        /// What would fit, bytes.
        room: u64,
    },
}

/// Where an initrd was put; all zero if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Initrd {
    pub(crate) address: u64,
    pub(crate) len: u64,
}

const PAGE_MASK: u64 = 0xfff;

/// Puts the initrd as high as possible below `limit` (exclusive) and above `kernel_end`: low memory
/// is what early kernel code allocates from.
pub(crate) fn load(
    memory: &GuestMemory,
    file: &File,
    kernel_end: u64,
    limit: u64,
) -> Result<Initrd, InitrdError> {
    let image = Image::new(file, Role::Initrd)?;
    let len = image.len();
    let floor = kernel_end.saturating_add(PAGE_MASK) & !PAGE_MASK;
    let address = limit.checked_sub(len).map(|address| address & !PAGE_MASK);
    match address {
        Some(address) if address >= floor => {
            image.copy(memory, 0, len, address)?;
            Ok(Initrd { address, len })
        }
        _ => {
            let room = limit.saturating_sub(floor);
            Err(InitrdError::TooLarge { len, kernel_end, limit, room })
        }
    }
}
