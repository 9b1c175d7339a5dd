//! A kernel image: told from its content, checked, then copied.

mod bzimage;
mod elf;
mod error;
mod note;

use std::fs::File;

use arch::MMIO_HOLE_START;
use linux_loader::loader::bootparam::setup_header;
use memory::GuestMemory;

use crate::image::{Image, Role};
pub use error::{BzImageError, ElfError, KernelError, Part, SegmentError};

/// What a kernel image is, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelKind {
    /// A bzImage (Linux x86 boot protocol): starts in 64-bit mode if it says that it can, else in
    /// 32-bit mode.
    BzImage,
    /// An ELF without a PVH note: starts in 64-bit mode at its entry point, as Linux does.
    Elf,
    /// An ELF with a PVH note (`XEN_ELFNOTE_PHYS32_ENTRY`): starts in 32-bit mode at the address
    /// in the note.
    Pvh,
}

/// How a kernel is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// By what the image says of itself: PVH for an ELF with a PVH note, because that is the only
    /// entry that an ELF declares, else the Linux boot protocol.
    #[default]
    Auto,
    /// The Linux boot protocol, for an ELF at its entry point in 64-bit mode.
    Linux,
    /// PVH; only for an ELF with a PVH note.
    Pvh,
}

/// Where and in which mode the first instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// 64-bit mode, RSI is `boot_params`.
    Linux64(u64),
    /// 32-bit mode, ESI is `boot_params`.
    Linux32(u64),
    /// 32-bit mode, EBX is `hvm_start_info`.
    Pvh(u64),
}

/// Bytes of the image and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    offset: u64,
    len: u64,
    address: u64,
}

/// A kernel image that fits, not copied yet.
#[derive(Debug)]
pub(crate) struct Kernel<'a> {
    image: Image<'a>,
    pieces: Vec<Piece>,
    pub(crate) entry: Entry,
    /// Where the memory that the kernel needs at once ends.
    pub(crate) end: u64,
    /// The longest command line that it takes, without the NUL.
    pub(crate) cmdline_most: u64,
    /// Where the memory ends that an initrd may be in (exclusive).
    pub(crate) initrd_limit: u64,
    /// What goes into `boot_params`.
    pub(crate) header: setup_header,
}

impl<'a> Kernel<'a> {
    /// Looks at `file` and checks that it fits into RAM that ends at `ram_end`.
    pub(crate) fn new(
        file: &'a File,
        protocol: Protocol,
        ram_end: u64,
    ) -> Result<Self, KernelError> {
        let image = Image::new(file, Role::Kernel)?;
        match Format::of(&image)? {
            Format::Elf => elf::examine(image, protocol, ram_end),
            Format::BzImage => bzimage::examine(image, protocol, ram_end),
        }
    }

    /// Copies the kernel into RAM.
    pub(crate) fn copy(&self, memory: &GuestMemory) -> Result<(), KernelError> {
        for piece in &self.pieces {
            self.image.copy(memory, piece.offset, piece.len, piece.address)?;
        }
        Ok(())
    }
}

/// Tells from its content what the kernel in `file` is. Only the headers are looked at: a kernel
/// that is told apart here can still be one that [`load`](crate::load) refuses.
///
/// # Errors
/// The file cannot be read, is no kernel, or its headers lie.
pub fn probe(file: &File) -> Result<KernelKind, KernelError> {
    let image = Image::new(file, Role::Kernel)?;
    match Format::of(&image)? {
        Format::BzImage => Ok(KernelKind::BzImage),
        Format::Elf => match elf::entry(&image, Protocol::Auto)? {
            Entry::Pvh(_) => Ok(KernelKind::Pvh),
            Entry::Linux64(_) | Entry::Linux32(_) => Ok(KernelKind::Elf),
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    BzImage,
    Elf,
}

impl Format {
    fn of(image: &Image<'_>) -> Result<Self, KernelError> {
        let head = image.head(0x206)?;
        if head.starts_with(b"\x7fELF") {
            Ok(Self::Elf)
        } else if head.get(0x202..) == Some(b"HdrS") {
            Ok(Self::BzImage)
        } else {
            Err(KernelError::Unknown { start: head.into_iter().take(8).collect() })
        }
    }
}

/// Checks that `len` bytes at `start` are in RAM that ends at `ram_end`; says where they end.
fn fit(part: Part, start: u64, len: u64, ram_end: u64) -> Result<u64, KernelError> {
    match start.checked_add(len) {
        Some(end) if end <= ram_end => Ok(end),
        Some(end) if end <= MMIO_HOLE_START => {
            let mib = end.div_ceil(1 << 20);
            Err(KernelError::BeyondRam { part, start, len, ram_end, mib })
        }
        _ => Err(KernelError::Unreachable { part, start, len }),
    }
}

#[cfg(test)]
mod tests;
