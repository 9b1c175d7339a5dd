//! The Linux boot protocol's `boot_params`, the zero page (Linux
//! Documentation/arch/x86/zero-page.rst).

use arch::{Layout, Node};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use memory::GuestMemory;
use vm_memory::ByteValued;

use crate::{
    BootError,
    initrd::Initrd,
    place,
    ram::{self, MapRange},
};

/// A boot loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xff;
/// `loadflags`: `heap_end_ptr` is valid; only real-mode code would use it.
const CAN_USE_HEAP: u8 = 0x80;

/// What a Linux kernel is told besides its own header.
#[derive(Debug)]
pub(crate) struct Params<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) nodes: &'a [Node],
    pub(crate) header: setup_header,
    pub(crate) cmdline: u64,
    pub(crate) initrd: Initrd,
    /// Where the RSDP is; 0 if there is none.
    pub(crate) rsdp: u64,
}

impl Params<'_> {
    /// Writes the zero page and says where.
    pub(crate) fn write(&self, memory: &GuestMemory) -> Result<u64, BootError> {
        let mut page = boot_params { hdr: self.header, ..boot_params::default() };
        page.hdr.type_of_loader = UNKNOWN_LOADER;
        page.hdr.loadflags &= !CAN_USE_HEAP;
        page.hdr.cmd_line_ptr = low(self.cmdline);
        page.hdr.ramdisk_image = low(self.initrd.address);
        page.hdr.ramdisk_size = low(self.initrd.len);
        page.ext_ramdisk_image = high(self.initrd.address);
        page.ext_ramdisk_size = high(self.initrd.len);
        // A kernel with a header of its own brings the list of setup data of whoever built it.
        page.hdr.setup_data = 0;
        page.acpi_rsdp_addr = self.rsdp;
        let map = ram::map(self.layout, self.nodes);
        page.e820_entries = self.e820(&map, &mut page)?;
        ram::put(memory, "boot_params", place::ZERO_PAGE, page.as_slice())?;
        Ok(place::ZERO_PAGE)
    }

    fn e820(&self, map: &[MapRange], page: &mut boot_params) -> Result<u8, BootError> {
        let mut table = page.e820_table;
        let (ranges, most) = (map.len(), table.len());
        let too_many = BootError::TooManyRanges { ranges, most };
        if ranges > most {
            return Err(too_many);
        }
        for (entry, range) in table.iter_mut().zip(map) {
            let (addr, size) = (range.start, range.len);
            *entry = boot_e820_entry { addr, size, r#type: range.kind.number() };
        }
        page.e820_table = table;
        u8::try_from(ranges).map_err(|_| too_many)
    }
}

/// Bits 0 to 31.
fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

/// Bits 32 to 63.
fn high(value: u64) -> u32 {
    u32::try_from(value >> 32).unwrap_or(0)
}
