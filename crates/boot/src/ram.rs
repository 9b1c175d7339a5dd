//! Guest RAM as a loader sees it.

use arch::{EBDA_START, HIGH_RAM_START, IDENTITY_MAP, Layout, Node, TSS_BASE};
use memory::{Bytes, GuestAddress, GuestMemory};

use crate::BootError;

/// Configuration space of one bus in memory, bytes.
const ECAM_LEN: u64 = 1 << 20;

/// Where the RAM that starts at address 0 ends.
pub(crate) fn low_end(layout: &Layout) -> Result<u64, BootError> {
    let end = layout
        .ram
        .first()
        .filter(|(start, _)| start.0 == 0)
        .and_then(|(_, len)| u64::try_from(*len).ok())
        .unwrap_or(0);
    if end > HIGH_RAM_START { Ok(end) } else { Err(BootError::NoLowRam { end }) }
}

/// Writes `bytes`, called `what` in errors, at `address`.
pub(crate) fn put(
    memory: &GuestMemory,
    what: &'static str,
    address: u64,
    bytes: &[u8],
) -> Result<(), BootError> {
    memory.write_slice(bytes, GuestAddress(address)).map_err(|source| BootError::Memory {
        what,
        address,
        source,
    })
}

/// What a range of the memory map is. E820 and PVH use the same numbers (ACPI 6.5, 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeKind {
    Ram,
    Reserved,
}

impl RangeKind {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Ram => 1,
            Self::Reserved => 2,
        }
    }
}

/// One range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapRange {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) kind: RangeKind,
}

/// The memory map that the guest is told: RAM without the hole below 1 MiB, which holds the tables,
/// the configuration space of PCI, which kernels use only where it is reserved, and the pages that KVM
/// keeps below the local APIC's end, so that no BAR is put there.
pub(crate) fn map(layout: &Layout, nodes: &[Node]) -> Vec<MapRange> {
    let mut map = Vec::with_capacity(layout.ram.len() + 4);
    let mut add = |start: u64, end: u64, kind| {
        if end > start {
            map.push(MapRange { start, len: end - start, kind });
        }
    };
    let mut reserved_added = false;
    for &(start, len) in &layout.ram {
        let (start, len) = (start.0, u64::try_from(len).unwrap_or(u64::MAX));
        let end = start.saturating_add(len);
        add(start, end.min(EBDA_START), RangeKind::Ram);
        if !reserved_added {
            add(EBDA_START, HIGH_RAM_START, RangeKind::Reserved);
            reserved_added = true;
        }
        add(start.max(HIGH_RAM_START), end, RangeKind::Ram);
    }
    let mut reserve = |start: u64, len: u64| {
        let above = map.iter().position(|range| range.start > start).unwrap_or(map.len());
        map.insert(above, MapRange { start, len, kind: RangeKind::Reserved });
    };
    for node in nodes {
        if let Node::PciRoot { ecam, .. } = node {
            reserve(*ecam, ECAM_LEN);
        }
    }
    reserve(IDENTITY_MAP, TSS_BASE + 0x3000 - IDENTITY_MAP);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_of_a_small_machine_has_the_isa_hole() {
        let map = map(&Layout::for_ram(64 << 20).unwrap(), &[]);
        let ranges: Vec<_> = map.iter().map(|range| (range.start, range.len, range.kind)).collect();
        assert_eq!(
            ranges,
            [
                (0, 0x9_fc00, RangeKind::Ram),
                (0x9_fc00, 0x6_0400, RangeKind::Reserved),
                (0x10_0000, (64 << 20) - 0x10_0000, RangeKind::Ram),
                (0xfffb_c000, 0x4000, RangeKind::Reserved),
            ]
        );
    }

    #[test]
    fn the_map_of_a_large_machine_is_sorted_and_has_ram_above_4_gib() {
        let map = map(&Layout::for_ram(5 << 30).unwrap(), &[]);
        let last = map.last().unwrap();
        assert_eq!((last.start, last.len, last.kind), (1 << 32, 2 << 30, RangeKind::Ram));
        assert!(map.is_sorted_by_key(|range| range.start));
    }

    #[test]
    fn the_configuration_space_of_pci_is_reserved() {
        let mem32 = arch::Window { first: 0xd000_0000, last: 0xdfff_ffff };
        let pci = Node::PciRoot { ecam: 0xc000_0000, mem32, mem64: None, io: None, intx: None };
        let map = map(&Layout::for_ram(5 << 30).unwrap(), &[pci]);
        let ecam = MapRange { start: 0xc000_0000, len: 1 << 20, kind: RangeKind::Reserved };
        assert!(map.contains(&ecam), "{map:x?}");
        assert!(map.is_sorted_by_key(|range| range.start));
    }

    #[test]
    fn ram_that_ends_below_the_kernel_is_refused_with_its_end() {
        let layout = Layout::for_ram(1 << 20).unwrap();
        let error = low_end(&layout).unwrap_err();
        assert!(error.to_string().starts_with("RAM ends at 0x100000"), "{error}");
    }
}
