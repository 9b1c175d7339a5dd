//! From a payload to memory and registers.

use std::fs::File;

use arch::{CpuImage, Layout, Node, Topology};
use memory::GuestMemory;

use crate::{
    BootError, Protocol, Tables,
    cmdline::Cmdline,
    gdt,
    initrd::{self, Initrd},
    kernel::{Entry, Kernel},
    paging,
    params::Params,
    place,
    pvh::StartInfo,
    ram, tables,
};

/// The machine, as far as its kernel must be told of it.
#[derive(Clone, Copy, Debug)]
pub struct Platform<'a> {
    /// Where RAM is; guest memory must have the same ranges.
    pub layout: &'a Layout,
    /// The processors.
    pub topology: &'a Topology,
    /// What the devices announced.
    pub nodes: &'a [Node],
}

/// What to boot, and how.
#[derive(Debug)]
pub struct Payload {
    /// The kernel: a bzImage or an ELF.
    pub kernel: File,
    /// The initial RAM disk.
    pub initrd: Option<File>,
    /// The user's part of the kernel's command line: printable ASCII.
    pub cmdline: String,
    /// How the kernel is started.
    pub protocol: Protocol,
    /// Which tables the guest is given.
    pub tables: Tables,
}

impl Payload {
    /// `kernel` alone, started as it says itself, with all tables and an empty command line.
    pub fn new(kernel: File) -> Self {
        Self {
            kernel,
            initrd: None,
            cmdline: String::new(),
            protocol: Protocol::default(),
            tables: Tables::default(),
        }
    }
}

/// Puts the kernel, its initrd, its command line and the tables into `memory`, which must read as
/// zero, and says how the first processor must start.
///
/// The files are read through their descriptors, whose positions move.
///
/// # Errors
/// A file cannot be read or is not what it should be, or something does not fit. Then memory may have
/// been written in part.
pub fn load(
    memory: &GuestMemory,
    platform: &Platform<'_>,
    payload: &Payload,
) -> Result<CpuImage, BootError> {
    let ram_end = ram::low_end(platform.layout)?;
    let cmdline = Cmdline::new(&payload.cmdline, platform.nodes, payload.tables)?;
    let kernel = Kernel::new(&payload.kernel, payload.protocol, ram_end)?;
    let cmdline = cmdline.write(memory, kernel.cmdline_most)?;
    let initrd = match &payload.initrd {
        Some(file) => initrd::load(memory, file, kernel.end, kernel.initrd_limit.min(ram_end))?,
        None => Initrd::default(),
    };
    kernel.copy(memory)?;
    log::debug!("kernel {:x?} up to {:#x}, {initrd:x?}", kernel.entry, kernel.end);
    let rsdp = tables::write(memory, platform, payload.tables)?;
    let Platform { layout, nodes, .. } = *platform;
    let params = Params { layout, nodes, header: kernel.header, cmdline, initrd, rsdp };
    match kernel.entry {
        Entry::Linux64(entry) => {
            let (rsi, cr3) = (params.write(memory)?, paging::identity(memory)?);
            let (rsp, gdt) = (place::STACK, gdt::long_mode(memory)?);
            Ok(CpuImage { rsi, rsp, ..CpuImage::long_mode(entry, cr3, gdt) })
        }
        Entry::Linux32(entry) => {
            let (rsi, rsp, gdt) =
                (params.write(memory)?, place::STACK, gdt::protected_mode(memory)?);
            Ok(CpuImage { rsi, rsp, ..CpuImage::protected_mode(entry, gdt) })
        }
        Entry::Pvh(entry) => {
            let rbx = StartInfo { layout, nodes, cmdline, initrd, rsdp }.write(memory)?;
            let gdt = gdt::protected_mode(memory)?;
            Ok(CpuImage { rbx, ..CpuImage::protected_mode(entry, gdt) })
        }
    }
}

#[cfg(test)]
mod tests;
