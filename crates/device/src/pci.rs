//! What a device on the PCI bus is to the bus. `purlin-pci` puts it there.

use std::{fmt, sync::Arc};

use bus::{AccessError, Action, IrqLine};
use vmm_sys_util::eventfd::EventFd;

use crate::Intx;

/// Where a function is: bus, device and function number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bdf {
    bus: u8,
    device: u8,
    function: u8,
}

impl Bdf {
    /// The place with these numbers; `None` unless `device` is below 32 and `function` below 8.
    pub fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self { bus, device, function })
    }

    /// The bus.
    pub fn bus(self) -> u8 {
        self.bus
    }

    /// The device on the bus, 0 to 31.
    pub fn device(self) -> u8 {
        self.device
    }

    /// The function of the device, 0 to 7.
    pub fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{:x}", self.bus, self.device, self.function)
    }
}

/// What a function says it is (PCI 3.0 §6.2.1, §6.2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor, 0 to 0xfffe.
    pub vendor: u16,
    /// Device, as its vendor numbers them.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Base class, subclass and programming interface: 0x01_00_00 is a SCSI controller.
    pub class: [u8; 3],
    /// Vendor of the subsystem.
    pub subsystem_vendor: u16,
    /// Subsystem.
    pub subsystem: u16,
}

/// Which space a BAR is in, and how wide its register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes the next register too.
    Memory64 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
}

/// A range of registers that the guest places (PCI 3.0 §6.2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Which register, 0 to 5; the number that accesses come with.
    pub index: u8,
    /// Where it can be.
    pub kind: BarKind,
    /// How many bytes: a power of two; 4 to 256 for ports, 16 to 2 GiB for 32-bit memory.
    pub size: u64,
}

/// One entry of the list of capabilities (PCI 3.0 §6.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is: 0x09 is vendor-specific, 0x10 PCI Express.
    pub id: u8,
    /// What follows the pointer to the next capability.
    pub body: Vec<u8>,
    /// Which bits of `body` the guest can write; missing bytes cannot be written.
    pub writable: Vec<u8>,
    /// If part of it is a window on the function's BARs, where the fields are.
    pub window: Option<CapabilityWindow>,
}

impl Capability {
    /// A capability whose `body` cannot be written.
    pub fn new(id: u8, body: Vec<u8>) -> Self {
        Self { id, body, writable: Vec::new(), window: None }
    }

    /// Lets the guest write the bits that are set in `mask`, which lies over the body.
    #[must_use]
    pub fn writable(mut self, mask: Vec<u8>) -> Self {
        self.writable = mask;
        self
    }

    /// Makes part of it a window on the function's BARs. The fields that choose the register should
    /// be writable.
    #[must_use]
    pub fn window(mut self, window: CapabilityWindow) -> Self {
        self.window = Some(window);
        self
    }
}

/// A capability through which BARs are reached without being mapped (virtio 1.3 §4.1.4.9): the guest
/// writes BAR, offset and length, and what it then reads or writes as data goes to that register.
/// Each field is an offset into the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityWindow {
    /// One byte: the BAR's index.
    pub bar: u8,
    /// Four bytes: the offset in the BAR, a multiple of the length.
    pub offset: u8,
    /// Four bytes: 1, 2 or 4.
    pub length: u8,
    /// Four bytes: what is read or written.
    pub data: u8,
}

/// Where a function keeps its MSI-X structures, which the bus answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixLayout {
    /// How many vectors, 1 to 2048.
    pub vectors: u16,
    /// The BAR, which must be memory.
    pub bar: u8,
    /// Offset of the table: 16 bytes a vector, at a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits: 8 bytes for each 64 vectors, at a multiple of 8.
    pub pba: u32,
}

/// A write to a BAR that signals an event. Where the host can do it, the function never sees the
/// write; where it cannot, [`PciFunction::bar_write`] does.
#[derive(Clone, Debug)]
pub struct BarDoorbell {
    /// The BAR, which must be memory.
    pub bar: u8,
    /// Where in the BAR.
    pub offset: u64,
    /// What a write of any width signals.
    pub event: Arc<EventFd>,
}

/// A function of a PCI device: what it is, as data that never changes, and its registers.
///
/// The bus keeps its configuration space, places its BARs, and holds its MSI-X table; it saves these
/// too. The function saves the rest ([`Wiring::persist`]), and learns no address. Calls come from
/// vCPU threads, several at a time, and must not touch the bus.
///
/// [`Wiring::persist`]: crate::Wiring::persist
pub trait PciFunction: Send + Sync {
    /// What it is.
    fn identity(&self) -> Identity;

    /// Its BARs.
    fn bars(&self) -> Vec<Bar> {
        Vec::new()
    }

    /// Its capabilities besides MSI-X, in the order of the list.
    fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }

    /// Its MSI-X structures.
    fn msix(&self) -> Option<MsixLayout> {
        None
    }

    /// Its doorbells.
    fn doorbells(&self) -> Vec<BarDoorbell> {
        Vec::new()
    }

    /// Its interrupt pin, INTA, for guests that do not use MSI-X; `None` if it has none. The same each
    /// time.
    fn intx(&self) -> Option<Intx> {
        None
    }

    /// Takes the interrupt lines, one for each MSI-X vector. Called once, before any access. A line
    /// that is raised while the guest has masked it is delivered when the guest unmasks it.
    fn connect(&self, _lines: Vec<IrqLine>) {}

    /// The guest lets the function reach memory and send messages by itself, or no longer does (PCI 3.0
    /// §6.2.2). At first it does not. The bus holds messages back meanwhile; the function is to leave
    /// guest RAM alone.
    fn bus_master(&self, _on: bool) {}

    /// Fills `data`, which holds `0xff` in every byte, and lies whole inside the BAR.
    ///
    /// # Errors
    /// The function has nothing to say there; `data` then stays `0xff`.
    fn bar_read(&self, _bar: u8, _offset: u64, _data: &mut [u8]) -> Result<(), AccessError> {
        Err(AccessError::NoRegister)
    }

    /// Takes `data`, and says what the machine has to do.
    ///
    /// # Errors
    /// The function has nothing to take it; the write is dropped.
    fn bar_write(&self, _bar: u8, _offset: u64, _data: &[u8]) -> Result<Action, AccessError> {
        Err(AccessError::NoRegister)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_lspci_does() {
        assert_eq!(Bdf::new(0, 0x1f, 7).unwrap().to_string(), "00:1f.7");
    }

    #[test]
    fn a_place_that_no_bus_has_does_not_exist() {
        assert_eq!((Bdf::new(0, 32, 0), Bdf::new(0, 0, 8)), (None, None));
    }
}
