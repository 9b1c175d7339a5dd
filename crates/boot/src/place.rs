//! Where `boot` puts things in the first MiB. Each constant is a guest physical address.
//!
//! ```text
//! 0x0_0500  global descriptor table
//! 0x0_6000  PVH start info with its module list and memory map
//! 0x0_7000  Linux boot_params (zero page)
//! 0x0_8ff0  stack, grows down
//! 0x0_9000  page tables, 6 pages
//! 0x2_0000  command line, at most 64 KiB with its NUL
//! 0x9_fc00  MP floating pointer
//! 0xe_0000  RSDP, then the other ACPI tables, at most 64 KiB in all
//! 0xf_0000  SMBIOS entry point, then its structures, at most 32 KiB
//! 0xf_8000  MP configuration table
//! ```

use arch::{EBDA_START, HIGH_RAM_START};

pub(crate) const GDT: u64 = 0x500;
pub(crate) const START_INFO: u64 = 0x6000;
pub(crate) const ZERO_PAGE: u64 = 0x7000;
pub(crate) const STACK: u64 = 0x8ff0;
pub(crate) const PAGE_TABLES: u64 = 0x9000;
pub(crate) const CMDLINE: u64 = 0x2_0000;
pub(crate) const CMDLINE_ROOM: u64 = 0x1_0000;
pub(crate) const MP_POINTER: u64 = EBDA_START;
pub(crate) const ACPI: u64 = 0xe_0000;
pub(crate) const ACPI_ROOM: u64 = 0x1_0000;
pub(crate) const SMBIOS: u64 = 0xf_0000;
pub(crate) const SMBIOS_ROOM: u64 = 0x8000;
pub(crate) const MP_TABLE: u64 = 0xf_8000;
pub(crate) const MP_TABLE_ROOM: u64 = 0x8000;

/// Kernels are loaded from here on; everything below is ours.
pub(crate) const KERNEL: u64 = HIGH_RAM_START;
