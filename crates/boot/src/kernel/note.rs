//! ELF notes, and the one that makes a kernel bootable by PVH.

use super::ElfError;

const HEADER: usize = 12;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the address of the 32-bit entry point.
const PHYS32_ENTRY: u32 = 18;

/// Looks for the PVH note in the bytes of a note segment.
///
/// `offset` is where the segment is in the file, `align` its alignment: notes are padded to 4
/// bytes, or to 8 where the segment says so.
pub(super) fn pvh_entry(notes: &[u8], offset: u64, align: u64) -> Result<Option<u64>, ElfError> {
    let align = if align == 8 { 8 } else { 4 };
    let mut at = 0;
    while let Some(rest) = notes.get(at..).filter(|rest| rest.len() >= HEADER) {
        let lying = |len: u64| ElfError::Note {
            offset: offset + to_u64(at),
            len,
            left: to_u64(rest.len()),
        };
        let [name_len, desc_len, kind] = [0, 4, 8].map(|field| u32_at(rest, field));
        let desc_at = HEADER + to_usize(name_len);
        let desc_at = desc_at.next_multiple_of(align);
        let len = desc_at.saturating_add(to_usize(desc_len));
        let name = rest.get(HEADER..HEADER.saturating_add(to_usize(name_len)));
        let (Some(name), Some(desc)) = (name, rest.get(desc_at..len)) else {
            return Err(lying(to_u64(len)));
        };
        if kind == PHYS32_ENTRY && name == b"Xen\0" {
            return address(desc).map(Some);
        }
        at += len.next_multiple_of(align);
    }
    Ok(None)
}

fn address(desc: &[u8]) -> Result<u64, ElfError> {
    if let Ok(bytes) = <[u8; 4]>::try_from(desc) {
        return Ok(u64::from(u32::from_le_bytes(bytes)));
    }
    if let Ok(bytes) = <[u8; 8]>::try_from(desc) {
        return Ok(u64::from_le_bytes(bytes));
    }
    Err(ElfError::PvhNote { size: u32::try_from(desc.len()).unwrap_or(u32::MAX) })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn to_usize(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
