#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod available;
mod chain;
#[cfg(feature = "test-utils")]
pub mod conformance;
mod contract;
mod descriptor;
mod drain;
mod event;
pub mod feature;
mod handle;
mod in_flight;
mod interrupt;
mod mmio;
mod negotiation;
mod offload;
mod pci;
mod pending;
mod ring;
mod setup;
mod split;
mod state;
mod turn;
mod used;
mod walk;
mod worker;

pub use chain::{Chain, Reader, Writer};
pub use contract::{Device, Served};
pub use event::{Call, signal};
pub use handle::Handle;
pub use mmio::{MmioTransport, mmio};
pub use negotiation::{Change, Negotiation, NegotiationError, status};
pub use offload::{Offload, OffloadError, OffloadedRing};
pub use pci::{PciTransport, pci};
pub use pending::Pending;
pub use ring::RingError;
pub use state::{RingState, WorkerState};
