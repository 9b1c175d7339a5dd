//! Saved state.

use device::Versioned;
use serde::{Deserialize, Serialize};

/// The saved form of [`Vsock`](crate::Vsock), which is empty: connections do not survive, and the
/// guest is told so after a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockState {}

impl Versioned for VsockState {
    const KIND: &'static str = "virtio.vsock";
    const VERSION: u32 = 1;
}
