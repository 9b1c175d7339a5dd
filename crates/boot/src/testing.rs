//! What the tests share: RAM, files, and small kernels.

use std::{fs::File, io::Write};

use arch::Layout;
use memory::{Backing, GuestMemory, Ram};
use vmm_sys_util::tempfile::TempFile;

pub(crate) fn ram_of(bytes: u64) -> (Layout, GuestMemory) {
    let layout = Layout::for_ram(bytes).unwrap();
    let ram = Ram::new(&layout.ram, Backing::Anonymous).unwrap();
    let memory = ram.memory();
    (layout, memory)
}

pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = TempFile::new().unwrap().into_file();
    file.write_all(bytes).unwrap();
    file
}

pub(crate) fn patch(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Bytes of code in [`bzimage`].
pub(crate) const CODE: usize = 0x400;

/// A bzImage of protocol 2.15 with one setup sector and [`CODE`] bytes of 0x90 as code, relocatable,
/// with a 64-bit entry, that prefers 2 MiB and needs 64 KiB there.
pub(crate) fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 0x400 + CODE];
    image[0x400..].fill(0x90);
    let paragraphs = u32::try_from(CODE / 16).unwrap();
    image[0x1f1] = 1;
    patch(&mut image, 0x1f4, &paragraphs.to_le_bytes());
    patch(&mut image, 0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    patch(&mut image, 0x202, b"HdrS");
    patch(&mut image, 0x206, &0x20f_u16.to_le_bytes());
    image[0x211] = 0x01;
    patch(&mut image, 0x214, &0x10_0000_u32.to_le_bytes());
    patch(&mut image, 0x22c, &0x7fff_ffff_u32.to_le_bytes());
    patch(&mut image, 0x230, &0x20_0000_u32.to_le_bytes());
    image[0x234] = 1;
    patch(&mut image, 0x236, &1_u16.to_le_bytes());
    patch(&mut image, 0x238, &255_u32.to_le_bytes());
    patch(&mut image, 0x258, &0x20_0000_u64.to_le_bytes());
    patch(&mut image, 0x260, &0x1_0000_u32.to_le_bytes());
    image
}

/// A program header of [`elf`].
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) file: u64,
    pub(crate) memory: u64,
}

/// A 64-bit ELF with two segments of 0x100 bytes at 1 MiB and 2 MiB, the second with as many zeros
/// after it, and a note segment with `note`; the entry is 0x10 into the first.
pub(crate) fn elf(note: &[u8]) -> Vec<u8> {
    let load = |offset, address, memory| Load { kind: 1, offset, address, file: 0x100, memory };
    let notes = Load {
        kind: 4,
        offset: 0x400,
        address: 0,
        file: note.len() as u64,
        memory: note.len() as u64,
    };
    let segments = [load(0x200, 0x10_0000, 0x100), load(0x300, 0x20_0000, 0x200), notes];
    elf_of(&segments, note)
}

pub(crate) fn elf_of(segments: &[Load], note: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x400];
    image[0x200..0x300].fill(0x90);
    image[0x300..0x400].fill(0xcc);
    image.extend(note);
    patch(&mut image, 0, b"\x7fELF\x02\x01\x01");
    patch(&mut image, 16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    patch(&mut image, 24, &0x10_0010_u64.to_le_bytes());
    patch(&mut image, 32, &64_u64.to_le_bytes());
    patch(&mut image, 52, &[64, 0, 56, 0, u8::try_from(segments.len()).unwrap(), 0]);
    for (index, segment) in segments.iter().enumerate() {
        let at = 64 + index * 56;
        patch(&mut image, at, &segment.kind.to_le_bytes());
        patch(&mut image, at + 8, &segment.offset.to_le_bytes());
        patch(&mut image, at + 24, &segment.address.to_le_bytes());
        patch(&mut image, at + 32, &segment.file.to_le_bytes());
        patch(&mut image, at + 40, &segment.memory.to_le_bytes());
        patch(&mut image, at + 48, &4_u64.to_le_bytes());
    }
    image
}

/// A note of `kind` by `name`, a multiple of four bytes with its NUL, padded like `desc`.
pub(crate) fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let mut note = length(name).to_vec();
    note.extend(length(desc));
    note.extend(kind.to_le_bytes());
    note.extend(name);
    note.extend(desc);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// The PVH note of a kernel that starts 0x20 into the first segment of [`elf`], after another note.
pub(crate) fn pvh_note() -> Vec<u8> {
    let other = note(b"GNU\0", 3, &[1, 2, 3, 4, 5]);
    [other, note(b"Xen\0", 18, &0x10_0020_u32.to_le_bytes())].concat()
}
