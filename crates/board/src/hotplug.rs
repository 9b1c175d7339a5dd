//! Attaching devices to a machine that runs, and taking them away.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use arch::{IoAddr, Node};
use bus::{BusDevice, IrqLine, Mmio, Pio, Range};
use device::{
    Attach, AttachError, Bdf, Component, EventFd, Irq, PciFunction, Subscriber, WireError, Wiring,
};
use memory::GuestMemory;
use pci::Root;

use crate::{BoardError, registry::Registry};

/// Puts PCI devices into a running machine, and takes them away. Clones do the same; any thread may.
///
/// A device must be all on the PCI bus, such as one of `virtio::pci`: the routing tables of a running
/// machine do not change.
#[derive(Clone)]
pub struct Hotplug {
    pub(crate) memory: GuestMemory,
    pub(crate) registry: Arc<Registry>,
    pub(crate) root: Root,
}

/// Why a device cannot be taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such device on the PCI bus.
    #[error("no device called `{0}` is on the PCI bus; only those can be taken away")]
    Unknown(String),
    /// The bus does not let go of it.
    #[error("the PCI bus does not let go of the device")]
    Bus(#[from] pci::RemoveError),
}

impl Hotplug {
    /// Attaches `device` under `name`, and tells the guest.
    ///
    /// # Errors
    /// The name is taken, or the device does not get what it needs; nothing of it is left then.
    pub fn attach<A: Attach>(&self, name: &str, device: A) -> Result<A::Handle, BoardError> {
        let failed = |source| BoardError::Attach { name: name.to_owned(), source };
        let turn = self.registry.claim(name);
        let turn = turn.ok_or_else(|| failed(AttachError::NameTaken(name.to_owned())))?;
        let mut slot = Slot { board: self, name, turn, refused: false };
        let attached = device.attach(&mut slot);
        let attached = match attached {
            Ok(_) if slot.refused => Err(AttachError::Wire(WireError::Running)),
            attached => attached,
        };
        let at = self.registry.on_bus(name);
        match (attached, at) {
            (Ok(handle), Some(at)) => {
                self.root.announce(at);
                Ok(handle)
            }
            (Ok(handle), None) => Ok(handle),
            (Err(error), at) => {
                self.registry.forget(name);
                at.into_iter().for_each(|at| self.root.remove(at));
                Err(failed(error))
            }
        }
    }

    /// Asks the guest to let go of the device called `name`, which is gone when
    /// [`has`](Self::has) says so. A guest may take its time, or never do it.
    ///
    /// # Errors
    /// There is no such device on the PCI bus.
    pub fn request_removal(&self, name: &str) -> Result<(), RemoveError> {
        let at = self.registry.on_bus(name);
        let at = at.ok_or_else(|| RemoveError::Unknown(name.to_owned()))?;
        Ok(self.root.request_removal(at)?)
    }

    /// Whether the machine has a device called `name` on the PCI bus, or still holds something of one
    /// that was there: it no longer does when every event loop has let go of it too, which those do
    /// while the board is served. Afterwards the device is dropped, unless its owner's handle keeps it.
    pub fn has(&self, name: &str) -> bool {
        self.registry.holds(name)
    }
}

impl fmt::Debug for Hotplug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hotplug").field("root", &self.root).finish_non_exhaustive()
    }
}

/// What a device sees of a running machine.
struct Slot<'a> {
    board: &'a Hotplug,
    name: &'a str,
    turn: usize,
    /// Whether it has asked for what only a machine at rest can give.
    refused: bool,
}

impl Wiring for Slot<'_> {
    fn memory(&self) -> GuestMemory {
        Arc::clone(&self.board.memory)
    }

    fn pio(&mut self, _: Range<Pio>, _: Arc<dyn BusDevice>) {
        self.refused = true;
    }

    fn mmio(&mut self, _: Range<Mmio>, _: Arc<dyn BusDevice>) {
        self.refused = true;
    }

    fn window(&mut self, _: u64) -> Result<Range<Mmio>, WireError> {
        Err(WireError::Running)
    }

    fn irq(&mut self, _: Irq) -> Result<(u32, IrqLine), WireError> {
        Err(WireError::Running)
    }

    fn doorbell(&mut self, _: IoAddr, _: Option<u32>) -> Result<EventFd, WireError> {
        Err(WireError::Running)
    }

    fn poll(&mut self, subscriber: Subscriber) {
        self.board.registry.poll(self.turn, self.name, subscriber);
    }

    fn persist(&mut self, component: Arc<Mutex<dyn Component>>) {
        self.board.registry.persist(self.name, component);
    }

    fn announce(&mut self, _: Node) {
        self.refused = true;
    }

    fn pci(&mut self, function: Arc<dyn PciFunction>) -> Result<Bdf, WireError> {
        let at =
            self.board.root.insert_hot(function).map_err(|error| WireError::Pci(error.into()))?;
        self.board.registry.put_on_bus(self.name, at);
        Ok(at)
    }
}
