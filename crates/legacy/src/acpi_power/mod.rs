//! ACPI's fixed hardware: power button, power off, reset.

mod registers;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use device::{Attach, AttachError, Irq, Node, Range, Wiring};

pub use self::registers::SavedAcpiPower;
use self::registers::{PORTS, Registers};
use crate::{line::Line, lock};

const BASE: u16 = 0x600;
/// The system control interrupt, where PC software expects it.
const SCI: u32 = 9;

/// The fixed ACPI hardware at 16 ports from 0x600 on, interrupt line 9 (ACPI 6.5, 4.8.3).
///
/// | port  | register    | what it does                                                      |
/// |-------|-------------|-------------------------------------------------------------------|
/// | 0x600 | PM1 status  | power button (bit 8), write 1 to clear                            |
/// | 0x602 | PM1 enable  | which status bits interrupt                                       |
/// | 0x604 | PM1 control | sleep type 5 with sleep enable: [`PowerOff`](device::Action::PowerOff) |
/// | 0x60c | reset       | writing 1: [`Reset`](device::Action::Reset)                       |
///
/// There are no sleep states besides S5, and there is no PM timer, which costs an exit a read: guests
/// have the TSC, KVM's clock, the local APIC's timer and the PIT.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct AcpiPower;

impl AcpiPower {
    /// The hardware, with nothing pending.
    pub fn new() -> Self {
        Self
    }
}

impl Attach for AcpiPower {
    type Handle = PowerButton;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<PowerButton, AttachError> {
        let (gsi, line) = wiring.irq(Irq::Fixed(SCI))?;
        let registers = Arc::new(Mutex::new(Registers::new(Line::new(line))));
        wiring.pio(Range::new(BASE, PORTS)?, registers.clone());
        wiring.persist(registers.clone());
        wiring.announce(Node::AcpiPower { base: BASE, gsi });
        Ok(PowerButton(registers))
    }
}

/// The host's finger on the power button. Clones press the same button.
#[derive(Clone, Debug)]
pub struct PowerButton(Arc<Mutex<Registers>>);

impl PowerButton {
    /// Presses the button: a request to the guest's OS to shut down. If the OS is not listening yet,
    /// the press waits until it enables the button.
    pub fn press_power_button(&self) {
        lock(&self.0).press_power_button();
    }
}
