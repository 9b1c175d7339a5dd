#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod attach;
#[cfg(feature = "test-utils")]
pub mod conformance;
#[cfg(feature = "test-utils")]
mod fake;
mod intx;
mod pci;

pub use arch::{IoAddr, Node};
pub use attach::{Attach, AttachError, Irq, Subscriber, WireError, Wiring};
pub use bus::{
    AccessError, Action, BusDevice, IrqLine, Mmio, MutBusDevice, Pio, Range, RangeError,
};
pub use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
#[cfg(feature = "test-utils")]
pub use fake::FakeWiring;
pub use intx::Intx;
pub use memory::GuestMemory;
pub use pci::{
    Bar, BarDoorbell, BarKind, Bdf, Capability, CapabilityWindow, Identity, MsixLayout, PciFunction,
};
pub use snapshot::{Component, Persist, RestoreError, SaveError, Versioned};
pub use vmm_sys_util::eventfd::EventFd;
