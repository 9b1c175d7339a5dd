//! Where each interrupt line goes: pins of the PIC and the IOAPIC, or a message.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_MAX_IRQ_ROUTES, KvmIrqRouting, kvm_irq_routing_entry as Entry,
    kvm_msi,
};
use kvm_ioctls::VmFd;

use super::{
    machine::{LINES, Machine},
    os,
};
use crate::{Msi, MsiMessage, WireError};

/// The messages of one machine. While there are none, KVM's own table stands, which has the same
/// lines as [`lines`]: a machine without MSIs is spared the call.
#[derive(Debug, Default)]
pub(super) struct Routing(Mutex<BTreeMap<u32, MsiMessage>>);

impl Routing {
    /// Fails unless `gsi` can have an event.
    pub(super) fn check(&self, gsi: u32) -> Result<(), WireError> {
        // Each of the sixteen ISA lines has two routes.
        let last = KVM_MAX_IRQ_ROUTES - 17;
        if usize::try_from(gsi).is_ok_and(|gsi| gsi <= last) {
            Ok(())
        } else {
            Err(WireError::Gsi {
                gsi,
                right: "lines 0 to 23 are the IOAPIC's, 24 to 4079 messages",
            })
        }
    }

    fn route(&self, vm: &VmFd, gsi: u32, message: Option<MsiMessage>) -> Result<(), WireError> {
        let mut messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = messages.clone();
        match message {
            Some(message) => changed.insert(gsi, message),
            None => changed.remove(&gsi),
        };
        let refused = |source| WireError::Host { what: format!("a route for {gsi}"), source };
        let entries: Vec<Entry> =
            lines().chain(changed.iter().map(|(gsi, message)| msi(*gsi, *message))).collect();
        let table = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| refused(std::io::ErrorKind::OutOfMemory.into()))?;
        vm.set_gsi_routing(&table).map_err(|error| refused(os(error)))?;
        *messages = changed;
        Ok(())
    }
}

impl Msi for Machine {
    fn route(&self, gsi: u32, message: Option<MsiMessage>) -> Result<(), WireError> {
        if gsi < LINES {
            return Err(WireError::Gsi { gsi, right: "messages have lines from 24 on" });
        }
        self.routing.check(gsi)?;
        self.chips.ensure(&self.fd)?;
        self.routing.route(&self.fd, gsi, message)
    }

    fn send(&self, message: MsiMessage) -> Result<(), WireError> {
        self.chips.ensure(&self.fd)?;
        let [address_lo, address_hi] = halves(message.address);
        let msi = kvm_msi { address_lo, address_hi, data: message.data, ..kvm_msi::default() };
        match self.fd.signal_msi(msi) {
            // 0 says that the guest has masked it, which is the guest's business.
            Ok(_) => Ok(()),
            Err(error) => Err(WireError::Host {
                what: format!("message {:#x} to {:#x}", message.data, message.address),
                source: os(error),
            }),
        }
    }
}

/// The lines as KVM itself routes them: 0 to 15 to the PIC and the IOAPIC, the rest to the IOAPIC.
fn lines() -> impl Iterator<Item = Entry> {
    let ioapic = (0..LINES).map(|gsi| pin(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    let master = (0..8).map(|gsi| pin(gsi, KVM_IRQCHIP_PIC_MASTER, gsi));
    let slave = (8..16).map(|gsi| pin(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8));
    master.chain(slave).chain(ioapic)
}

fn pin(gsi: u32, irqchip: u32, pin: u32) -> Entry {
    let mut entry = Entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Entry::default() };
    entry.u.irqchip = kvm_bindings::kvm_irq_routing_irqchip { irqchip, pin };
    entry
}

fn msi(gsi: u32, message: MsiMessage) -> Entry {
    let [address_lo, address_hi] = halves(message.address);
    let mut entry = Entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Entry::default() };
    entry.u.msi = kvm_bindings::kvm_irq_routing_msi {
        address_lo,
        address_hi,
        data: message.data,
        ..kvm_bindings::kvm_irq_routing_msi::default()
    };
    entry
}

fn halves(address: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isa_lines_go_to_both_controllers_and_the_others_to_one() {
        let routes = |gsi| lines().filter(|entry| entry.gsi == gsi).count();
        assert_eq!([0, 8, 15, 16, 23].map(routes), [2, 2, 2, 1, 1]);
    }

    #[test]
    fn an_address_is_split_low_half_first() {
        assert_eq!(halves(0x1_fee0_0000), [0xfee0_0000, 1]);
    }
}
