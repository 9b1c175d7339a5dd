//! The bzImage: a real-mode part, which is not used but for its header, and the protected-mode
//! code (Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").

use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

use super::{BzImageError, Entry, Kernel, KernelError, Part, Piece, Protocol, fit};
use crate::{image::Image, place};

/// Offset of the header in the file, and in `boot_params`.
const HEADER: usize = 0x1f1;
/// The header's first byte after its jump instruction.
const AFTER_JUMP: usize = 0x202;
const SECTOR: u64 = 512;
/// `loadflags`: the code is loaded at 1 MiB.
const LOADED_HIGH: u8 = 0x01;
/// `xloadflags`: there is a 64-bit entry point.
const XLF_KERNEL_64: u16 = 0x01;
/// Where the 64-bit entry point is in the code.
const ENTRY_64: u64 = 0x200;
/// The limits of kernels too old to say theirs.
const OLD_CMDLINE_SIZE: u32 = 255;
const OLD_INITRD_MAX: u32 = 0x37ff_ffff;

pub(super) fn examine(
    image: Image<'_>,
    protocol: Protocol,
    ram_end: u64,
) -> Result<Kernel<'_>, KernelError> {
    if protocol == Protocol::Pvh {
        let why = "it is a bzImage; only an ELF can have one";
        return Err(KernelError::Protocol { asked: protocol, why });
    }
    let mut header = header(&image)?;
    let (offset, len) = code(&header, image.len())?;
    let address = load_address(&header)?;
    let loaded = fit(Part::Code, address, len, ram_end)?;
    let end = loaded.max(workspace_end(&header, address, ram_end)?);
    let entry = entry(&header, address, len)?;
    header.code32_start = low(address);
    Ok(Kernel {
        image,
        pieces: vec![Piece { offset, len, address }],
        entry,
        end,
        cmdline_most: u64::from(header.cmdline_size),
        initrd_limit: u64::from(header.initrd_addr_max) + 1,
        header,
    })
}

/// The header, with what older protocols lack filled in.
fn header(image: &Image<'_>) -> Result<setup_header, KernelError> {
    let size = size_of::<setup_header>();
    let bytes = image.head(HEADER + size)?;
    // The jump at 0x200 leads to the end of the header; what follows is code, not fields.
    let jump = bytes.get(AFTER_JUMP - 1).copied().map_or(0, usize::from);
    let end = AFTER_JUMP + jump;
    let mut header = setup_header::default();
    let Some(fields) = bytes.get(HEADER..end.min(HEADER + size)) else {
        let (end, len) = (to_u64(end), image.len());
        return Err(BzImageError::Truncated { what: "header fields", end, len }.into());
    };
    for (to, from) in header.as_mut_slice().iter_mut().zip(fields) {
        *to = *from;
    }
    check(&header, end)?;
    let version = header.version;
    if version < 0x203 {
        header.initrd_addr_max = OLD_INITRD_MAX;
    }
    if version < 0x205 {
        header.relocatable_kernel = 0;
    }
    if version < 0x206 {
        header.cmdline_size = OLD_CMDLINE_SIZE;
    }
    if version < 0x20a {
        header.pref_address = 0;
        header.init_size = 0;
    }
    if version < 0x20c {
        header.xloadflags = 0;
    }
    Ok(header)
}

fn check(header: &setup_header, end: usize) -> Result<(), BzImageError> {
    let (flag, version, flags) = (header.boot_flag, header.version, header.loadflags);
    if flag != 0xaa55 {
        return Err(BzImageError::BootFlag { flag });
    }
    if version < 0x202 {
        return Err(BzImageError::Version { version });
    }
    let least = match version {
        ..0x203 => 0x22c,
        0x203..0x205 => 0x230,
        0x205..0x206 => 0x236,
        0x206..0x20a => 0x23c,
        _ => 0x264,
    };
    if end < least {
        return Err(BzImageError::Header { end: to_u64(end), version, least: to_u64(least) });
    }
    if flags & LOADED_HIGH == 0 {
        return Err(BzImageError::Low { flags });
    }
    Ok(())
}

/// Offset and length of the protected-mode code in the file.
fn code(header: &setup_header, file: u64) -> Result<(u64, u64), BzImageError> {
    // 0 means 4, for reasons of backward compatibility.
    let sectors = match header.setup_sects {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let offset = (sectors + 1) * SECTOR;
    // Before 2.04 only the low half was defined.
    let paragraphs = match header.version {
        ..0x204 => header.syssize & 0xffff,
        _ => header.syssize,
    };
    let len = u64::from(paragraphs) * 16;
    let end = offset + len;
    // The code's length is rounded up to 16 bytes, the file's need not be.
    if end > file + 15 {
        return Err(BzImageError::Truncated { what: "setup and code", end, len: file });
    }
    let len = len.min(file.saturating_sub(offset));
    if len <= ENTRY_64 {
        return Err(BzImageError::Code { len, least: ENTRY_64 });
    }
    Ok((offset, len))
}

/// A relocatable kernel moves itself to where it likes to be; any other must be put there.
fn load_address(header: &setup_header) -> Result<u64, BzImageError> {
    let preferred = header.pref_address;
    match preferred {
        0 => Ok(place::KERNEL),
        address if address < place::KERNEL => Err(BzImageError::PreferredAddress { address }),
        _ if header.relocatable_kernel != 0 => Ok(place::KERNEL),
        address => Ok(address),
    }
}

/// Where the memory ends in which the kernel unpacks itself.
fn workspace_end(header: &setup_header, address: u64, ram_end: u64) -> Result<u64, KernelError> {
    let start = address.max(header.pref_address);
    fit(Part::Workspace, start, u64::from(header.init_size), ram_end)
}

fn entry(header: &setup_header, address: u64, len: u64) -> Result<Entry, BzImageError> {
    if header.xloadflags & XLF_KERNEL_64 != 0 {
        return Ok(Entry::Linux64(address + ENTRY_64));
    }
    // The entry is relative to the code's usual place, wherever the code is.
    let (start, end) = (place::KERNEL, place::KERNEL + len);
    match u64::from(header.code32_start) {
        entry if (start..end).contains(&entry) => Ok(Entry::Linux32(address + (entry - start))),
        entry => Err(BzImageError::Entry { entry, start, end }),
    }
}

/// A load address is in RAM, which ends below 4 GiB.
fn low(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
