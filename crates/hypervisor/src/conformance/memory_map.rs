//! Which addresses are RAM.

use std::sync::Arc;

use super::{machine, ram};
use crate::{Hypervisor, MapError, SlotId};

/// Whichever way two regions share addresses, the second is refused, and both are named.
pub fn regions_that_share_addresses_are_refused(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    vm.map(ram(0x10_0000, 0x4000)).expect("the first region is mapped");
    for (start, len) in
        [(0x10_0000, 0x4000), (0xf_f000, 0x2000), (0x10_3000, 0x2000), (0, 0x20_0000)]
    {
        match vm.map(ram(start, len)) {
            Err(MapError::Overlap {
                start: found, other: 0x10_0000, other_len: 0x4000, ..
            }) => {
                assert_eq!(found, start, "the error names the new region");
            }
            other => panic!("a region at {start:#x} of {len:#x} bytes overlaps, but got {other:?}"),
        }
    }
    vm.map(ram(0x10_4000, 0x1000)).expect("a region right behind is mapped");
    vm.map_read_only(ram(0xf_f000, 0x1000)).expect("a read-only region right before is mapped");
}

/// The very region that was mapped comes back, and its addresses are free again.
pub fn a_region_comes_back_when_it_is_unmapped(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let region = ram(0, 0x1000);
    let slot = vm.map(Arc::clone(&region)).expect("the region is mapped");
    let back = vm.unmap(slot).expect("the region is unmapped");
    assert!(Arc::ptr_eq(&region, &back), "unmap gives back what was mapped");
    assert_eq!(Arc::strong_count(&back), 2, "the machine keeps nothing of it");
    vm.map(ram(0, 0x2000)).expect("its addresses are free");
}

/// A slot that holds nothing is an error.
pub fn unknown_slots_are_refused(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let slot = vm.map(ram(0, 0x1000)).expect("the region is mapped");
    vm.unmap(slot).expect("the region is unmapped");
    for unknown in [slot, SlotId(slot.0 + 1)] {
        match vm.unmap(unknown) {
            Err(MapError::Unknown(id)) => assert_eq!(id, unknown.0),
            other => panic!("{unknown:?} holds nothing, but got {other:?}"),
        }
    }
}
