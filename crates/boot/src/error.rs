//! Why a machine cannot boot what it was given.

use arch::HIGH_RAM_START;
use vm_memory::GuestMemoryError;

use crate::{CmdlineError, InitrdError, KernelError, TablesError};

/// Why [`load`](crate::load) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// There is no room even for the tables.
    #[error(
        "RAM ends at {end:#x}; booting needs RAM from 0 to beyond {HIGH_RAM_START:#x}, \
         so give the machine at least 2 MiB"
    )]
    NoLowRam {
        /// Where the RAM that starts at address 0 ends; 0 if there is none.
        end: u64,
    },
    /// The layout has more ranges of RAM than a memory map can list.
    #[error("RAM has {ranges} ranges; a memory map has room for at most {most}")]
    TooManyRanges {
        /// Entries needed.
        ranges: usize,
        /// Entries that fit.
        most: usize,
    },
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The initrd.
    #[error(transparent)]
    Initrd(#[from] InitrdError),
    /// The command line.
    #[error(transparent)]
    Cmdline(#[from] CmdlineError),
    /// The tables that describe the machine.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// Guest memory refused a write inside the layout's RAM.
    #[error("{what} cannot be written at {address:#x}; the memory must have the layout's ranges")]
    Memory {
        /// What was to be written.
        what: &'static str,
        /// Guest physical address.
        address: u64,
        /// What guest memory said.
        source: GuestMemoryError,
    },
}
