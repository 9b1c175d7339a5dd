//! The saved form.

use device::Versioned;
use serde::{Deserialize, Serialize};

/// Which memory a [`Pmem`](crate::Pmem) gives; what is in it is not part of a snapshot, the image
/// has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PmemState {
    /// Guest physical address.
    pub start: u64,
    /// Size, bytes.
    pub size: u64,
    /// Whether the image was open for reading only.
    pub read_only: bool,
}

impl Versioned for PmemState {
    const KIND: &'static str = "virtio.pmem";
    const VERSION: u32 = 1;
}
