//! The interrupt controllers, the timer and the clock in the kernel.

use std::sync::{Mutex, PoisonError};

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY,
    kvm_clock_data, kvm_irqchip, kvm_pit_config,
};
use kvm_ioctls::VmFd;

use super::{
    class::{self, Classes, refused},
    failed,
};
use crate::{CreateError, StateError, VmState};

/// The three controllers by the name they are saved under.
const CONTROLLERS: [(&str, u32); 3] = [
    ("IRQCHIP_PIC_MASTER", KVM_IRQCHIP_PIC_MASTER),
    ("IRQCHIP_PIC_SLAVE", KVM_IRQCHIP_PIC_SLAVE),
    ("IRQCHIP_IOAPIC", KVM_IRQCHIP_IOAPIC),
];

/// PIC, IOAPIC, local APICs and PIT of one machine, made when first needed: on hosts without
/// hardware support (KVM-PVM), making them before memory is mapped costs milliseconds.
#[derive(Debug, Default)]
pub(super) struct Chips(Mutex<Made>);

/// Which of them are there.
#[derive(Debug, Default)]
struct Made {
    controllers: bool,
    timer: bool,
}

impl Chips {
    /// Makes them unless they are there. KVM wants this before the first vCPU.
    pub(super) fn ensure(&self, vm: &VmFd) -> Result<(), CreateError> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.controllers {
            vm.create_irq_chip().map_err(failed("create the interrupt controllers"))?;
            made.controllers = true;
        }
        if !made.timer {
            // The speaker's port is answered in the kernel too: guests calibrate by it.
            let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
            vm.create_pit2(pit).map_err(failed("create the interval timer"))?;
            made.timer = true;
        }
        Ok(())
    }

    pub(super) fn save(&self, vm: &VmFd) -> Result<VmState, StateError> {
        self.made(vm)?;
        let mut classes = Classes::new();
        for (name, chip_id) in CONTROLLERS {
            let mut chip = kvm_irqchip { chip_id, ..kvm_irqchip::default() };
            let read = vm.get_irqchip(&mut chip).map(|()| chip);
            class::put(&mut classes, name, read)?;
        }
        class::put(&mut classes, "PIT2", vm.get_pit2())?;
        class::put(&mut classes, "CLOCK", vm.get_clock())?;
        Ok(VmState { classes })
    }

    pub(super) fn restore(&self, vm: &VmFd, state: &VmState) -> Result<(), StateError> {
        self.made(vm)?;
        for (name, chip_id) in CONTROLLERS {
            // The name decides which controller it is, whatever the bytes say.
            let chip = kvm_irqchip { chip_id, ..class::get(&state.classes, name)? };
            vm.set_irqchip(&chip).map_err(refused(name))?;
        }
        vm.set_pit2(&class::get(&state.classes, "PIT2")?).map_err(refused("PIT2"))?;
        // The flags tell how the clock was read. Without them it goes on from where it stopped,
        // rather than leap over the time in which there was no machine.
        let clock: kvm_clock_data = class::get(&state.classes, "CLOCK")?;
        let clock = kvm_clock_data { clock: clock.clock, ..kvm_clock_data::default() };
        vm.set_clock(&clock).map_err(refused("CLOCK"))
    }

    fn made(&self, vm: &VmFd) -> Result<(), StateError> {
        self.ensure(vm).map_err(|error| StateError::Host {
            verb: "complete",
            what: "the machine".into(),
            source: std::io::Error::other(error),
        })
    }
}
