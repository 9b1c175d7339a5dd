//! What a kernel that starts by PVH is told: `hvm_start_info`, version 1 (Xen
//! include/public/arch-x86/hvm/start_info.h).

use arch::{Layout, Node};
use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use memory::GuestMemory;
use vm_memory::ByteValued;

use crate::{BootError, initrd::Initrd, place, ram};

/// The module list follows the start info, the memory map the list.
const MODULES: u64 = place::START_INFO + 0x40;
const MAP: u64 = place::START_INFO + 0x80;
/// How many ranges there is room for before the zero page.
const MOST_RANGES: usize = 160;

/// What the kernel is told.
#[derive(Debug)]
pub(crate) struct StartInfo<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) nodes: &'a [Node],
    pub(crate) cmdline: u64,
    pub(crate) initrd: Initrd,
    /// Where the RSDP is; 0 if there is none.
    pub(crate) rsdp: u64,
}

impl StartInfo<'_> {
    /// Writes the start info and says where.
    pub(crate) fn write(&self, memory: &GuestMemory) -> Result<u64, BootError> {
        let map = ram::map(self.layout, self.nodes);
        let ranges = map.len();
        let too_many = BootError::TooManyRanges { ranges, most: MOST_RANGES };
        if ranges > MOST_RANGES {
            return Err(too_many);
        }
        let mut info = hvm_start_info {
            magic: XEN_HVM_START_MAGIC_VALUE,
            version: 1,
            cmdline_paddr: self.cmdline,
            rsdp_paddr: self.rsdp,
            memmap_paddr: MAP,
            memmap_entries: u32::try_from(ranges).map_err(|_| too_many)?,
            ..hvm_start_info::default()
        };
        if self.initrd.len > 0 {
            let (paddr, size) = (self.initrd.address, self.initrd.len);
            let module = hvm_modlist_entry { paddr, size, ..hvm_modlist_entry::default() };
            ram::put(memory, "the PVH module list", MODULES, module.as_slice())?;
            info.nr_modules = 1;
            info.modlist_paddr = MODULES;
        }
        let entries = map.iter().map(|range| hvm_memmap_table_entry {
            addr: range.start,
            size: range.len,
            type_: range.kind.number(),
            reserved: 0,
        });
        let bytes: Vec<u8> = entries.flat_map(|entry| entry.as_slice().to_vec()).collect();
        ram::put(memory, "the PVH memory map", MAP, &bytes)?;
        ram::put(memory, "the PVH start info", place::START_INFO, info.as_slice())?;
        Ok(place::START_INFO)
    }
}
