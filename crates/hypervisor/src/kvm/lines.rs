//! Interrupt lines: `KVM_IRQFD` for edges, `KVM_IRQ_LINE` for levels.

use vmm_sys_util::eventfd::EventFd;

use super::{
    machine::{LINES, Machine},
    os,
};
use crate::{Lines, WireError};

impl Lines for Machine {
    fn irqfd(&self, gsi: u32) -> Result<EventFd, WireError> {
        self.routing.check(gsi)?;
        self.chips.ensure(&self.fd)?;
        let refused =
            |source| WireError::Host { what: format!("an event for interrupt line {gsi}"), source };
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(refused)?;
        self.fd.register_irqfd(&event, gsi).map_err(|error| refused(os(error)))?;
        Ok(event)
    }

    fn level(&self, gsi: u32, asserted: bool) -> Result<(), WireError> {
        if gsi >= LINES {
            return Err(WireError::Gsi { gsi, right: "lines 0 to 23 have levels" });
        }
        self.chips.ensure(&self.fd)?;
        self.fd.set_irq_line(gsi, asserted).map_err(|error| WireError::Host {
            what: format!("a level on interrupt line {gsi}"),
            source: os(error),
        })
    }
}
