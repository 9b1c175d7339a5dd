//! The saved form.

use device::Versioned;
use serde::{Deserialize, Serialize};

/// What a [`Blk`](crate::Blk) holds besides its disk, whose content is not part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlkState {
    /// Size of the disk, in sectors of 512 bytes.
    pub capacity: u64,
    /// Whether the guest knows the disk as read-only.
    pub read_only: bool,
    /// Whether the guest has the cache on.
    pub writeback: bool,
}

impl Versioned for BlkState {
    const KIND: &'static str = "virtio.blk";
    const VERSION: u32 = 1;
}
