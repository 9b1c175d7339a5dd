//! The VM level: memory, interrupts, events.

use std::sync::Arc;

use arch::{IDENTITY_MAP, TSS_BASE};
use kvm_ioctls::{Cap, VmFd};
use memory::Region;

use super::{Host, chips::Chips, failed, routing::Routing, slots::Slots, vcpu::KvmVcpu};
use crate::{
    CreateError, DirtyLog, Doorbells, Lines, LogError, MapError, Msi, SlotId, StateError, Vcpu, Vm,
    VmConfig, VmState,
};

/// Interrupt lines of the IOAPIC.
pub(super) const LINES: u32 = 24;

/// One VM.
///
/// Fields are dropped in this order: KVM must have closed the VM before its memory is unmapped.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) fd: VmFd,
    pub(super) slots: Slots,
    pub(super) host: Arc<Host>,
    pub(super) config: VmConfig,
    pub(super) chips: Chips,
    pub(super) routing: Routing,
    /// Ourselves, for vCPUs to hold.
    this: std::sync::Weak<Machine>,
}

impl Machine {
    pub(super) fn new(kvm: Arc<Host>, config: &VmConfig) -> Result<Arc<Self>, CreateError> {
        let fd = create(&kvm)?;
        let tss = usize::try_from(TSS_BASE).unwrap_or(usize::MAX);
        fd.set_identity_map_address(IDENTITY_MAP).map_err(failed("place the identity map"))?;
        fd.set_tss_address(tss).map_err(failed("place the task state segment"))?;
        let limit = u32::try_from(kvm.fd.get_nr_memslots()).unwrap_or(u32::MAX);
        Ok(Arc::new_cyclic(|this| Self {
            fd,
            slots: Slots::new(limit),
            host: kvm,
            config: config.clone(),
            chips: Chips::default(),
            routing: Routing::default(),
            this: this.clone(),
        }))
    }

    /// The id KVM knows a vCPU by, which is its APIC id.
    pub(super) fn id(&self, index: u32) -> u32 {
        self.config.topology.map_or(index, |topology| topology.apic_id(index))
    }
}

/// KVM gives up creating a VM when any signal arrives, a timer's for example.
fn create(kvm: &Host) -> Result<VmFd, CreateError> {
    loop {
        match kvm.fd.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(failed("create a virtual machine")),
        }
    }
}

impl Vm for Machine {
    fn map(&self, region: Arc<Region>) -> Result<SlotId, MapError> {
        self.slots.map(&self.fd, region, false)
    }

    fn map_read_only(&self, region: Arc<Region>) -> Result<SlotId, MapError> {
        self.slots.map(&self.fd, region, true)
    }

    fn unmap(&self, slot: SlotId) -> Result<Arc<Region>, MapError> {
        self.slots.unmap(&self.fd, slot)
    }

    fn create_vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>, CreateError> {
        let last =
            u32::try_from(self.host.fd.get_max_vcpu_id()).unwrap_or(u32::MAX).saturating_sub(1);
        if self.id(index) > last {
            return Err(CreateError::VcpuIndex { index, last });
        }
        let this = self.this.upgrade().ok_or(CreateError::VcpuIndex { index, last })?;
        self.chips.ensure(&self.fd)?;
        Ok(Box::new(KvmVcpu::new(this, index)?))
    }

    fn lines(&self) -> &dyn Lines {
        self
    }

    fn doorbells(&self) -> &dyn Doorbells {
        self
    }

    fn save(&self) -> Result<VmState, StateError> {
        self.chips.save(&self.fd)
    }

    fn restore(&self, state: &VmState) -> Result<(), StateError> {
        self.chips.restore(&self.fd, state)
    }

    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        Some(self)
    }

    fn msi(&self) -> Option<&dyn Msi> {
        self.fd.check_extension(Cap::SignalMsi).then_some(self)
    }
}

impl DirtyLog for Machine {
    fn start(&self, slot: SlotId) -> Result<(), LogError> {
        self.slots.track(&self.fd, slot, true)
    }

    fn take(&self, slot: SlotId) -> Result<Vec<u64>, LogError> {
        self.slots.written(&self.fd, slot)
    }

    fn stop(&self, slot: SlotId) -> Result<(), LogError> {
        self.slots.track(&self.fd, slot, false)
    }
}
