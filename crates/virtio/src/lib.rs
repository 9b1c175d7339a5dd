#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod chain;
#[cfg(feature = "test-utils")]
pub mod conformance;
mod contract;
pub mod feature;
mod handle;
mod interrupt;
mod mmio;
mod negotiation;
mod ring;
mod state;
mod turn;
mod walk;
mod worker;

pub use chain::{Chain, Reader, Writer};
pub use contract::{Device, Served};
pub use handle::Handle;
pub use mmio::{MmioTransport, mmio};
pub use negotiation::{Change, Negotiation, NegotiationError, status};
pub use ring::RingError;
pub use state::{RingState, WorkerState};
