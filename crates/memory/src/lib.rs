#![doc = include_str!("../README.md")]
#![deny(unsafe_code)] // allowed in `advice`, `loss::sys`, `scatter` and `view` only: see there

mod advice;
mod backing;
mod dirty;
mod discard;
pub mod loss;
mod marks;
mod ram;
mod scatter;
mod view;

use std::sync::Arc;

pub use backing::{Backing, Pages, RamConfig};
pub use dirty::Dirty;
pub use discard::{DiscardError, discard};
pub use marks::Marks;
pub use ram::{Ram, RamError};
pub use scatter::{Scatter, Stretch};
pub use view::{View, Window};
pub use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestUsize, MemoryRegionAddress,
};
use vm_memory::{GuestMemoryMmap, GuestRegionMmap};

/// One contiguous range of guest RAM, mapped in this process, its pages marked as they are written.
pub type Region = GuestRegionMmap<Marks>;

/// Guest RAM as devices and loaders hold it: bounds-checked, volatile, shared by all.
pub type GuestMemory = Arc<GuestMemoryMmap<Marks>>;
