//! Message-signalled interrupts, for the PCI bus.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use device::EventFd;
use hypervisor::{MsiMessage, Vm, WireError};
use pci::{Host, Message, MsiVector};

/// The first line beyond the IOAPIC's: from here on lines carry messages.
const FIRST: u32 = 24;

/// Gives out the lines that carry messages.
pub(crate) struct Messages {
    vm: Arc<dyn Vm>,
    next: AtomicU32,
}

impl Messages {
    pub(crate) fn new(vm: Arc<dyn Vm>) -> Self {
        Self { vm, next: AtomicU32::new(FIRST) }
    }
}

impl Host for Messages {
    fn msi(&self) -> io::Result<Arc<dyn MsiVector>> {
        if self.vm.msi().is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let gsi = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Vector { vm: Arc::clone(&self.vm), gsi, event: OnceLock::new() }))
    }
}

/// A line that carries a message. A vector that no driver uses costs the host nothing.
struct Vector {
    vm: Arc<dyn Vm>,
    gsi: u32,
    event: OnceLock<EventFd>,
}

impl MsiVector for Vector {
    fn program(&self, message: Message) -> io::Result<()> {
        let Message { address, data } = message;
        let msi = self.vm.msi().ok_or(io::ErrorKind::Unsupported)?;
        msi.route(self.gsi, Some(MsiMessage { address, data })).map_err(refused)?;
        if self.event.get().is_none() {
            // The bus programs a vector from one thread at a time; a second event would be dropped.
            let _ = self.event.set(self.vm.irqfd(self.gsi).map_err(refused)?);
        }
        Ok(())
    }

    fn raise(&self) -> io::Result<()> {
        let event = self.event.get().ok_or(io::ErrorKind::NotConnected)?;
        let begin = trace::mark();
        let result = event.write(1);
        trace::record(trace::Kind::Interrupt, self.gsi.into(), begin);
        result
    }
}

fn refused(error: WireError) -> io::Error {
    io::Error::other(error)
}
