//! One range of guest RAM, mapped where huge pages can serve it.

use vm_memory::{
    FileOffset, GuestAddress, GuestRegionMmap,
    bitmap::NewBitmap,
    mmap::{MmapRegion, MmapRegionBuilder, MmapRegionError},
};

use super::RamError;
use crate::{Backing, Marks, Pages, RamConfig, Region};

/// The size of transparent huge pages on x86-64, bytes.
const HUGE: usize = 2 << 20;
/// How often another address is tried for.
const ATTEMPTS: usize = 8;

pub(super) fn map(
    start: GuestAddress,
    len: usize,
    file: Option<FileOffset>,
    config: &RamConfig,
) -> Result<Region, RamError> {
    let build = || {
        let builder = MmapRegionBuilder::new_with_bitmap(len, Marks::with_len(len))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(flags(config));
        match &file {
            Some(file) => builder.with_file_offset(file.clone()),
            None => builder,
        }
        .build()
    };
    let huge = matches!(config.pages, Pages::Default | Pages::Transparent) && len >= HUGE;
    let mapping = if huge { aligned(start, build) } else { build() };
    let mapping = mapping.map_err(|source| RamError::Map { start: start.0, len, source })?;
    GuestRegionMmap::new(mapping, start).ok_or(RamError::Overflow { start: start.0, len })
}

/// A mapping whose address agrees with the guest's modulo [`HUGE`]: only such a one lets a huge page
/// of the host be one of the guest. Linux does so by itself from 6.7 on, for most lengths. Before, new
/// mappings are put right below the last one, so that a pad as long as what is too much pushes the
/// next one into place. What cannot be had is not needed: the guest is slower then.
fn aligned<B>(
    start: GuestAddress,
    build: impl Fn() -> Result<MmapRegion<B>, MmapRegionError>,
) -> Result<MmapRegion<B>, MmapRegionError>
where
    B: vm_memory::bitmap::Bitmap,
{
    let mut pads = Vec::new();
    loop {
        let mapping = build()?;
        let beyond = excess(mapping.as_ptr().addr(), start);
        if beyond == 0 || pads.len() == ATTEMPTS {
            return Ok(mapping);
        }
        drop(mapping);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        match MmapRegion::<()>::build(None, beyond, libc::PROT_NONE, flags) {
            Ok(pad) => pads.push(pad),
            Err(_) => return build(),
        }
    }
}

/// How many bytes `address` is beyond one that agrees with `start`.
fn excess(address: usize, start: GuestAddress) -> usize {
    let huge = HUGE as u64;
    // Both are reduced first, so the difference is positive and below twice the size.
    let beyond = (address as u64 % huge + huge - start.0 % huge) % huge;
    usize::try_from(beyond).unwrap_or(0)
}

/// Anonymous mappings name their huge pages themselves; a memfd has them already. Ordinary memory is
/// overcommitted, as every guest expects; huge pages are reserved, because a guest that faults on a
/// missing one would die.
fn flags(config: &RamConfig) -> libc::c_int {
    let sharing = match config.backing {
        Backing::Anonymous => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        Backing::CopyOnWrite(_) | Backing::ReadOnly(_) => libc::MAP_PRIVATE,
        Backing::Memfd | Backing::Shared(_) => libc::MAP_SHARED,
    };
    sharing
        | match (&config.backing, config.pages) {
            (_, Pages::Default | Pages::Small | Pages::Transparent) => libc::MAP_NORESERVE,
            (Backing::Anonymous, Pages::Huge2M) => libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
            (Backing::Anonymous, Pages::Huge1G) => libc::MAP_HUGETLB | libc::MAP_HUGE_1GB,
            (_, Pages::Huge2M | Pages::Huge1G) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_agree_need_no_pad() {
        let at = |address, start| excess(address, GuestAddress(start));
        assert_eq!([at(5 * HUGE, 0), at(HUGE + 0x3000, 0x1_0000_3000)], [0, 0]);
        assert_eq!([at(HUGE + 0x3000, 0), at(HUGE, 0x1000)], [0x3000, HUGE - 0x1000]);
    }

    #[test]
    fn a_mapping_that_cannot_be_moved_is_taken_as_it_is() {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let small = || MmapRegion::<()>::build(None, 0x1000, libc::PROT_NONE, flags);
        assert_eq!(aligned(GuestAddress(0x800), small).unwrap().size(), 0x1000);
    }
}
