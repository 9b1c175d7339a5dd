//! What the machine gives to its PCI bus: interrupts, and doorbells.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use arch::{IntxLines, IoAddr};
use device::{Bdf, EventFd};
use hypervisor::{MsiMessage, Vm, WireError};
use pci::{Host, Message, MsiVector};

use crate::registry::Registry;

/// The first line beyond the IOAPIC's: from here on lines carry messages.
const FIRST: u32 = 24;

/// Gives out the lines that carry messages, and drives those of INTx.
pub(crate) struct Interrupts {
    vm: Arc<dyn Vm>,
    intx: IntxLines,
    next: AtomicU32,
    /// Lines of functions that are gone.
    free: Arc<Mutex<Vec<Line>>>,
    /// Weak, because the registry holds the bus, which holds this.
    registry: Weak<Registry>,
}

/// A line, and its event once it has carried a message.
type Line = (u32, OnceLock<EventFd>);

impl Interrupts {
    pub(crate) fn new(vm: Arc<dyn Vm>, intx: IntxLines, registry: &Arc<Registry>) -> Self {
        let registry = Arc::downgrade(registry);
        Self { vm, intx, next: AtomicU32::new(FIRST), free: Arc::default(), registry }
    }
}

impl Host for Interrupts {
    fn msi(&self) -> io::Result<Arc<dyn MsiVector>> {
        if self.vm.msi().is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let free = lock(&self.free).pop();
        let fresh = || (self.next.fetch_add(1, Ordering::Relaxed), OnceLock::new());
        let (gsi, event) = free.unwrap_or_else(fresh);
        let (vm, free) = (Arc::clone(&self.vm), Arc::clone(&self.free));
        Ok(Arc::new(Vector { vm, gsi, event, free }))
    }

    fn intx(&self) -> Option<IntxLines> {
        Some(self.intx)
    }

    fn level(&self, gsi: u32, asserted: bool) -> io::Result<()> {
        let begin = trace::mark();
        self.vm.lines().level(gsi, asserted).map_err(refused)?;
        if asserted {
            trace::record(trace::Kind::Interrupt, gsi.into(), begin);
        }
        Ok(())
    }

    fn ejected(&self, at: Bdf) {
        if let Some(registry) = self.registry.upgrade() {
            registry.ejected(at);
        }
    }

    fn listen(&self, address: u64, event: &EventFd) -> io::Result<()> {
        self.vm.doorbells().listen(IoAddr::Mmio(address), None, event).map_err(refused)
    }

    fn unlisten(&self, address: u64, event: &EventFd) -> io::Result<()> {
        self.vm.doorbells().unlisten(IoAddr::Mmio(address), None, event).map_err(refused)
    }
}

/// A line that carries a message. A vector that no driver uses costs the host nothing.
struct Vector {
    vm: Arc<dyn Vm>,
    gsi: u32,
    event: OnceLock<EventFd>,
    free: Arc<Mutex<Vec<Line>>>,
}

impl Drop for Vector {
    fn drop(&mut self) {
        if self.event.get().is_some()
            && let Some(msi) = self.vm.msi()
            && let Err(error) = msi.route(self.gsi, None)
        {
            // The line would deliver a message that is no longer meant.
            return log::warn!("interrupt line {} is not used again: {error}", self.gsi);
        }
        lock(&self.free).push((self.gsi, std::mem::take(&mut self.event)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MsiVector for Vector {
    fn program(&self, message: Message) -> io::Result<()> {
        let Message { address, data } = message;
        let msi = self.vm.msi().ok_or(io::ErrorKind::Unsupported)?;
        msi.route(self.gsi, Some(MsiMessage { address, data })).map_err(refused)?;
        if self.event.get().is_none() {
            // The bus programs a vector from one thread at a time; a second event would be dropped.
            let _ = self.event.set(self.vm.lines().irqfd(self.gsi).map_err(refused)?);
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
