//! The saved form.

use device::Versioned;
use serde::{Deserialize, Serialize};

/// What a [`Mem`](crate::Mem) holds; what is in the memory is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemState {
    /// Guest physical address of the region.
    pub start: u64,
    /// Size of the region, bytes.
    pub len: u64,
    /// Size of a block, bytes.
    pub block: u64,
    /// How much the driver is to have plugged, bytes.
    pub requested: u64,
    /// One bit for each block; bit 0 of the first word is the first.
    pub plugged: Vec<u64>,
}

impl Versioned for MemState {
    const KIND: &'static str = "virtio.mem";
    const VERSION: u32 = 1;
}
