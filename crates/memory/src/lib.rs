#![doc = include_str!("../README.md")]
#![deny(unsafe_code)] // allowed in `advice`, `loss::sys` and `scatter` only: see there

pub mod access;
mod advice;
mod backing;
mod dirty;
mod discard;
pub mod loss;
mod ram;
mod scatter;

use std::sync::Arc;

pub use backing::{Backing, Pages, RamConfig};
pub use dirty::Dirty;
pub use discard::{DiscardError, discard};
pub use ram::{Ram, RamError};
pub use scatter::Scatter;
pub use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestUsize, MemoryRegionAddress,
};
use vm_memory::{GuestMemoryMmap, GuestRegionMmap, bitmap::AtomicBitmap};

/// One contiguous range of guest RAM, mapped in this process, its pages marked as they are written.
pub type Region = GuestRegionMmap<AtomicBitmap>;

/// Guest RAM as devices and loaders hold it: bounds-checked, volatile, shared by all.
pub type GuestMemory = Arc<GuestMemoryMmap<AtomicBitmap>>;
