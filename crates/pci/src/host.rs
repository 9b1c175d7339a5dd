//! What the bus needs of the machine around it.

use std::{io, sync::Arc};

use arch::IntxLines;
use device::{Bdf, EventFd};

/// What a device writes, and where, to raise a message-signalled interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where; on a PC within the local APICs' page.
    pub address: u64,
    /// Vector and delivery mode.
    pub data: u32,
}

/// What the machine gives to its PCI bus. Called from vCPU threads; must not touch the bus unless it
/// is said.
pub trait Host: Send + Sync {
    /// A source of message-signalled interrupts. Called when a function is put on the bus, once for
    /// each of its MSI-X vectors.
    ///
    /// # Errors
    /// None is left.
    fn msi(&self) -> io::Result<Arc<dyn MsiVector>>;

    /// The lines that the INTx pins share; `None`, and functions have no pin. Called once, before the
    /// guest runs.
    fn intx(&self) -> Option<IntxLines> {
        None
    }

    /// Asserts line `gsi`, one of those, until it is taken back by `false`. Called when that changes,
    /// from any thread, for one line by one thread at a time.
    ///
    /// # Errors
    /// The host does not do it.
    fn level(&self, _gsi: u32, _asserted: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Has every write to guest physical `address`, of any width, signal `event` without an exit. A
    /// host that cannot need not: the write then comes as an exit.
    ///
    /// # Errors
    /// The host does not do it.
    fn listen(&self, _address: u64, _event: &EventFd) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The guest has let go of the function at `at`, which the bus has dropped. Called from a vCPU
    /// thread, and may take the bus's lock.
    fn ejected(&self, _at: Bdf) {}

    /// Undoes [`listen`](Self::listen), which was `Ok` for the same two.
    ///
    /// # Errors
    /// The host does not do it.
    fn unlisten(&self, _address: u64, _event: &EventFd) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// One source of message-signalled interrupts.
pub trait MsiVector: Send + Sync {
    /// From now on [`raise`](Self::raise) delivers `message`.
    ///
    /// # Errors
    /// The host refuses it, because the guest wrote nonsense or because it has no more.
    fn program(&self, message: Message) -> io::Result<()>;

    /// Delivers the message that was programmed last, once.
    ///
    /// # Errors
    /// The host refuses; the interrupt is lost.
    fn raise(&self) -> io::Result<()>;
}
