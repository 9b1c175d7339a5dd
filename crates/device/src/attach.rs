//! What a machine offers to a device, and how a device takes it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use arch::{IoAddr, Node};
use bus::{BusDevice, IrqLine, Mmio, Pio, Range, RangeError};
use event_manager::MutEventSubscriber;
use memory::GuestMemory;
use snapshot::Component;
use vmm_sys_util::eventfd::EventFd;

use crate::{Bdf, PciFunction};

/// Something with file descriptors that an I/O thread serves.
pub type Subscriber = Arc<Mutex<dyn MutEventSubscriber + Send>>;

/// What a machine offers to one device while it is being attached.
///
/// A device takes what it needs and never learns its address, its interrupt number or its transport
/// beyond what it chose itself. `purlin-board` implements this for real machines, `FakeWiring` (feature
/// `test-utils`) for unit tests.
pub trait Wiring {
    /// Guest RAM.
    fn memory(&self) -> GuestMemory;

    /// Answers the ports of `at` by `device`. Overlaps are found when the machine is frozen.
    fn pio(&mut self, at: Range<Pio>, device: Arc<dyn BusDevice>);

    /// Answers the addresses of `at` by `device`. Overlaps are found when the machine is frozen.
    fn mmio(&mut self, at: Range<Mmio>, device: Arc<dyn BusDevice>);

    /// Reserves `len` bytes of the machine's device window, aligned to `len` rounded up to a power
    /// of two.
    ///
    /// # Errors
    /// The window is used up.
    fn window(&mut self, len: u64) -> Result<Range<Mmio>, WireError>;

    /// An interrupt line and its number, which only an announced [`Node`] needs.
    ///
    /// # Errors
    /// The line is taken, none is left, or the host refuses one.
    fn irq(&mut self, want: Irq) -> Result<(u32, IrqLine), WireError>;

    /// An event that the guest signals by writing to `at` (`value`, or anything), without an exit to
    /// user space.
    ///
    /// # Errors
    /// The host refuses another event.
    fn doorbell(&mut self, at: IoAddr, value: Option<u32>) -> Result<EventFd, WireError>;

    /// Has an I/O thread serve `subscriber`.
    fn poll(&mut self, subscriber: Subscriber);

    /// Makes `component` part of the machine's saved state, under the device's name.
    fn persist(&mut self, component: Arc<Mutex<dyn Component>>);

    /// Has firmware describe the device.
    fn announce(&mut self, node: Node);

    /// Puts `function` into a free slot of the machine's PCI bus, which announces it to the guest.
    ///
    /// # Errors
    /// The machine has no PCI bus, the bus has no room, or what the function declares cannot be.
    fn pci(&mut self, _function: Arc<dyn PciFunction>) -> Result<Bdf, WireError> {
        Err(WireError::NoPci)
    }
}

/// Which interrupt line a device wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irq {
    /// Whichever is free.
    Any,
    /// This one, because software expects it there (COM1 is 4).
    Fixed(u32),
}

/// A device that can be put into a machine, in one call.
pub trait Attach {
    /// What the caller gets to talk to the device afterwards; `()` if there is nothing to say.
    type Handle;

    /// Takes what the device needs from `wiring`.
    ///
    /// # Errors
    /// The machine cannot give it, or the host refuses something that the device opens.
    fn attach(self, wiring: &mut dyn Wiring) -> Result<Self::Handle, AttachError>;
}

/// Why a machine could not give a device what it asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The device window is full.
    #[error("no room for {len:#x} bytes of registers; the device window has {free:#x} bytes left")]
    WindowFull {
        /// How much was asked for, bytes.
        len: u64,
        /// How much is left, bytes.
        free: u64,
    },
    /// All interrupt lines are given out.
    #[error("no interrupt line is free; lines {first} to {last} are all in use")]
    NoIrq {
        /// The first line that is given out.
        first: u32,
        /// The last line that is given out.
        last: u32,
    },
    /// The line belongs to another device.
    #[error("interrupt line {gsi} belongs to `{owner}` already")]
    IrqTaken {
        /// The line.
        gsi: u32,
        /// Who has it.
        owner: String,
    },
    /// There is no PCI bus.
    #[error("the machine has no PCI bus; give it one before its PCI devices")]
    NoPci,
    /// Only the PCI bus takes something new while the guest runs.
    #[error("the machine runs; only devices that are all on the PCI bus can be attached to it now")]
    Running,
    /// The PCI bus does not take the function.
    #[error("the PCI bus does not take the function")]
    Pci(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The host refused.
    #[error("the host refuses {what}")]
    Host {
        /// What was asked for.
        what: String,
        /// What the host said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a device could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The machine could not give what the device asked for.
    #[error("the machine cannot give what the device needs")]
    Wire(#[from] WireError),
    /// The device asked for an impossible range.
    #[error("the device asks for an impossible range")]
    Range(#[from] RangeError),
    /// The host refused something that the device opens.
    #[error("the host refuses what the device needs")]
    Io(#[from] io::Error),
    /// Two devices have the same name.
    #[error("the name `{0}` is taken; every device of a machine has a name of its own")]
    NameTaken(String),
}
