//! Why a kernel image cannot be loaded.

use std::fmt;

use arch::{HIGH_RAM_START, MMIO_HOLE_START};

use crate::{ImageError, Protocol};

/// Why a kernel cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The file cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It is neither kind of kernel.
    #[error(
        "not a kernel: starts with {}; \
         expected a bzImage (\"HdrS\" at 0x202) or an ELF (7f 45 4c 46)",
        hex(start)
    )]
    Unknown {
        /// The first bytes, at most eight.
        start: Vec<u8>,
    },
    /// An ELF whose headers lie, or not for this machine.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// A bzImage whose header lies, or too old.
    #[error(transparent)]
    BzImage(#[from] BzImageError),
    /// RAM ends before the kernel does.
    #[error(
        "{part} of {len:#x} bytes at {start:#x} ends beyond RAM ({ram_end:#x}); \
         give the machine at least {mib} MiB"
    )]
    BeyondRam {
        /// What does not fit.
        part: Part,
        /// Where it should be.
        start: u64,
        /// Its length in RAM, bytes.
        len: u64,
        /// Where RAM ends.
        ram_end: u64,
        /// How much RAM would do.
        mib: u64,
    },
    /// No machine has RAM there.
    #[error(
        "{part} of {len:#x} bytes at {start:#x} ends beyond {MMIO_HOLE_START:#x}, \
         where the RAM below 4 GiB of every machine ends; expected a kernel for lower addresses"
    )]
    Unreachable {
        /// What does not fit.
        part: Part,
        /// Where it should be.
        start: u64,
        /// Its length in RAM, bytes.
        len: u64,
    },
    /// The protocol asked for is not one of this kernel's.
    #[error("the kernel has no entry for protocol {asked:?}: {why}")]
    Protocol {
        /// What was asked for.
        asked: Protocol,
        /// What it would need.
        why: &'static str,
    },
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

/// Part of a kernel in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The ELF segment of that index in the program headers.
    Segment(usize),
    /// The protected-mode code of a bzImage.
    Code,
    /// What a bzImage needs to unpack itself (`pref_address`, `init_size`).
    Workspace,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(index) => write!(f, "ELF segment {index}"),
            Self::Code => f.write_str("the bzImage's code"),
            Self::Workspace => f.write_str("the bzImage's working space (init_size)"),
        }
    }
}

/// Why an ELF is not a kernel that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file ends before its headers.
    #[error(
        "the ELF's {what} end at {end:#x}, the file at {len:#x}; it is truncated or its header lies"
    )]
    Truncated {
        /// Which headers.
        what: &'static str,
        /// Where they end in the file.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// Class or byte order.
    #[error(
        "the ELF has class {class} and byte order {order}; \
         expected 2 (64 bits) or 1 (32 bits), and 1 (little-endian)"
    )]
    Ident {
        /// `EI_CLASS`.
        class: u8,
        /// `EI_DATA`.
        order: u8,
    },
    /// Another processor's, or no executable.
    #[error(
        "the ELF has machine {machine:#x} and type {kind}; expected machine 0x3e (x86-64), \
         or 0x3 (32-bit x86), and type 2 (executable) or 3 (position-independent)"
    )]
    Machine {
        /// `e_machine`.
        machine: u16,
        /// `e_type`.
        kind: u16,
    },
    /// Size or count of the program headers.
    #[error(
        "the ELF has {count} program headers of {size} bytes; expected 1 to {most} of {expected}"
    )]
    ProgramHeaders {
        /// `e_phnum`.
        count: u16,
        /// `e_phentsize`.
        size: u16,
        /// The most that are read.
        most: u16,
        /// The size in this class.
        expected: u16,
    },
    /// Nothing to load.
    #[error("the ELF has no segment to load; expected at least one PT_LOAD with bytes")]
    NoSegments,
    /// A segment lies.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The entry is not in what was loaded.
    #[error(
        "the ELF's {what} {entry:#x} is in no loaded segment; \
         expected the physical address of an instruction of the kernel"
    )]
    Entry {
        /// Which entry.
        what: &'static str,
        /// Its address.
        entry: u64,
    },
    /// A note lies.
    #[error(
        "the ELF note at {offset:#x} has {len} bytes, more than are left of its segment ({left})"
    )]
    Note {
        /// Offset in the file.
        offset: u64,
        /// Its length with name and header.
        len: u64,
        /// What is left of the segment.
        left: u64,
    },
    /// A PVH note that holds no address.
    #[error("the ELF's PVH note has {size} bytes; expected an address of 4 or 8")]
    PvhNote {
        /// Size of its descriptor.
        size: u32,
    },
}

/// Why a segment of an ELF cannot be loaded. Indices are those of the program headers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// More bytes in the file than in memory.
    #[error(
        "ELF segment {index} has {file:#x} bytes in the file, more than its {memory:#x} in memory"
    )]
    Size {
        /// Which segment.
        index: usize,
        /// `p_filesz`.
        file: u64,
        /// `p_memsz`.
        memory: u64,
    },
    /// Its bytes are not in the file.
    #[error(
        "ELF segment {index} of {size:#x} bytes at file offset {offset:#x} ends beyond the file \
         ({len:#x}); it is truncated or its header lies"
    )]
    File {
        /// Which segment.
        index: usize,
        /// `p_offset`.
        offset: u64,
        /// `p_filesz`.
        size: u64,
        /// Length of the file.
        len: u64,
    },
    /// It would overwrite the tables.
    #[error(
        "ELF segment {index} is at {address:#x}; expected a physical address from \
         {HIGH_RAM_START:#x} on, below which start-up tables are"
    )]
    Low {
        /// Which segment.
        index: usize,
        /// `p_paddr`.
        address: u64,
    },
    /// Two segments want the same memory.
    #[error("ELF segments {first} and {second} overlap at {address:#x}; expected each apart")]
    Overlap {
        /// The one that starts lower.
        first: usize,
        /// The other.
        second: usize,
        /// Where the second starts.
        address: u64,
    },
    /// Too many bytes of notes.
    #[error("ELF note segment {index} has {size:#x} bytes; expected at most {most:#x}")]
    Notes {
        /// Which segment.
        index: usize,
        /// `p_filesz`.
        size: u64,
        /// The most that are read.
        most: u64,
    },
}

/// Why a bzImage cannot be loaded (Linux x86 boot protocol).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BzImageError {
    /// The file ends before what its header describes.
    #[error(
        "the bzImage's {what} end at {end:#x}, the file at {len:#x}; \
         it is truncated or its header lies"
    )]
    Truncated {
        /// What ends there.
        what: &'static str,
        /// Where it ends in the file.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// No boot sector.
    #[error("the bzImage has {flag:#06x} at 0x1fe; expected 0xaa55")]
    BootFlag {
        /// `boot_flag`.
        flag: u16,
    },
    /// A header that ends before its own fields.
    #[error("the bzImage's header ends at {end:#x}; protocol {version:#06x} needs {least:#x}")]
    Header {
        /// Where it ends, by the jump over it.
        end: u64,
        /// `version`.
        version: u16,
        /// Where it should end.
        least: u64,
    },
    /// Too old.
    #[error("the bzImage has boot protocol {version:#06x}; expected 0x0202 or newer")]
    Version {
        /// `version`.
        version: u16,
    },
    /// A zImage, for the first MiB.
    #[error(
        "the kernel is a zImage (loadflags {flags:#04x}); expected a bzImage (LOADED_HIGH, 0x01)"
    )]
    Low {
        /// `loadflags`.
        flags: u8,
    },
    /// No protected-mode code.
    #[error("the bzImage has {len:#x} bytes of code; expected more than {least:#x}")]
    Code {
        /// Length of the code.
        len: u64,
        /// Where its entry is.
        least: u64,
    },
    /// The 32-bit entry is outside the code.
    #[error(
        "the bzImage's code32_start is {entry:#x}; expected an address in its code, \
         {start:#x} to {end:#x}"
    )]
    Entry {
        /// `code32_start`.
        entry: u64,
        /// Where the code starts.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// A kernel that wants to be where the tables are.
    #[error("the bzImage's pref_address is {address:#x}; expected {HIGH_RAM_START:#x} or higher")]
    PreferredAddress {
        /// `pref_address`.
        address: u64,
    },
}
