//! Memory slots: which region is RAM at which guest physical address.
#![expect(unsafe_code, reason = "hands host memory to the guest")]

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region as SlotEntry,
};
use kvm_ioctls::VmFd;
use memory::{GuestMemoryRegion, MemoryRegionAddress, Region};

use super::os;
use crate::{LogError, MapError, SlotId};

#[derive(Debug)]
struct Slot {
    region: Arc<Region>,
    flags: u32,
}

/// The slots of one machine. They own what they show to the guest: a region is let go only after
/// KVM has forgotten it.
#[derive(Debug)]
pub(super) struct Slots {
    taken: Mutex<BTreeMap<u32, Slot>>,
    limit: u32,
}

impl Slots {
    pub(super) fn new(limit: u32) -> Self {
        Self { taken: Mutex::default(), limit }
    }

    pub(super) fn map(
        &self,
        vm: &VmFd,
        region: Arc<Region>,
        read_only: bool,
    ) -> Result<SlotId, MapError> {
        let mut taken = self.lock();
        let (start, len) = place(&region);
        if let Some(overlap) = MapError::overlap(&region, taken.values().map(|slot| &slot.region)) {
            return Err(overlap);
        }
        let free = (0..self.limit).find(|id| !taken.contains_key(id));
        let id = free.ok_or(MapError::NoSlot { limit: self.limit })?;
        let flags = if read_only { KVM_MEM_READONLY } else { 0 };
        show(vm, id, &region, flags).map_err(|source| MapError::Host { start, len, source })?;
        taken.insert(id, Slot { region, flags });
        Ok(SlotId(id))
    }

    pub(super) fn unmap(&self, vm: &VmFd, slot: SlotId) -> Result<Arc<Region>, MapError> {
        let mut taken = self.lock();
        let found = taken.get(&slot.0).ok_or(MapError::Unknown(slot.0))?;
        let (start, len) = place(&found.region);
        hide(vm, slot.0).map_err(|source| MapError::Host { start, len, source })?;
        let slot = taken.remove(&slot.0).ok_or(MapError::Unknown(slot.0))?;
        Ok(slot.region)
    }

    /// Sets whether KVM logs the writes to a slot.
    pub(super) fn track(&self, vm: &VmFd, slot: SlotId, on: bool) -> Result<(), LogError> {
        let mut taken = self.lock();
        let found = taken.get_mut(&slot.0).ok_or(LogError::Unknown(slot.0))?;
        let logged = found.flags & KVM_MEM_LOG_DIRTY_PAGES != 0;
        let refused = |source| LogError::Host { slot: slot.0, source };
        if on && logged {
            // From all clean: what was written until now is told to nobody.
            return log(vm, slot.0, &found.region).map(drop).map_err(refused);
        }
        let flags = if on {
            found.flags | KVM_MEM_LOG_DIRTY_PAGES
        } else {
            found.flags & !KVM_MEM_LOG_DIRTY_PAGES
        };
        show(vm, slot.0, &found.region, flags).map_err(refused)?;
        found.flags = flags;
        Ok(())
    }

    /// The pages of a slot written since the last call.
    pub(super) fn written(&self, vm: &VmFd, slot: SlotId) -> Result<Vec<u64>, LogError> {
        let taken = self.lock();
        let found = taken.get(&slot.0).ok_or(LogError::Unknown(slot.0))?;
        if found.flags & KVM_MEM_LOG_DIRTY_PAGES == 0 {
            return Err(LogError::NotStarted(slot.0));
        }
        log(vm, slot.0, &found.region).map_err(|source| LogError::Host { slot: slot.0, source })
    }

    /// The region at a guest physical address, and the offset there.
    pub(super) fn find(&self, address: u64) -> Option<(Arc<Region>, MemoryRegionAddress)> {
        let taken = self.lock();
        taken.values().find_map(|slot| {
            let (start, len) = place(&slot.region);
            let offset = address.checked_sub(start).filter(|offset| *offset < len)?;
            Some((Arc::clone(&slot.region), MemoryRegionAddress(offset)))
        })
    }

    /// A panic elsewhere cannot leave the table half changed: it is changed in one step, last.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Slot>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(region: &Region) -> (u64, u64) {
    (region.start_addr().0, region.len())
}

/// Gives a region to the guest, or changes the flags of one given before.
fn show(vm: &VmFd, id: u32, region: &Region, flags: u32) -> io::Result<()> {
    let (guest_phys_addr, memory_size) = place(region);
    let host = region.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)?;
    let userspace_addr = host.addr() as u64;
    let entry = SlotEntry { slot: id, flags, guest_phys_addr, memory_size, userspace_addr };
    // SAFETY: the guest may now change `memory_size` bytes at `host`: exactly the region's mapping,
    // which vm-memory only ever accesses volatile. The caller keeps the region in `Slots` until
    // `hide` succeeds or the VM is closed (`Machine` drops the VM before the slots), so the mapping
    // outlives its use.
    unsafe { vm.set_user_memory_region(entry) }.map_err(os)
}

/// Takes a region away from the guest.
fn hide(vm: &VmFd, id: u32) -> io::Result<()> {
    let entry = SlotEntry { slot: id, ..SlotEntry::default() };
    // SAFETY: a slot of size 0 gives the guest nothing.
    unsafe { vm.set_user_memory_region(entry) }.map_err(os)
}

fn log(vm: &VmFd, id: u32, region: &Region) -> io::Result<Vec<u64>> {
    let bytes = usize::try_from(region.len()).map_err(io::Error::other)?;
    vm.get_dirty_log(id, bytes).map_err(os)
}
