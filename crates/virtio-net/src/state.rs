//! The saved form.

use device::Versioned;
use serde::{Deserialize, Serialize};

/// What a [`Net`](crate::Net) holds besides its links, which are the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetState {
    /// The address, as the guest set it or was told it.
    pub mac: [u8; 6],
    /// How many pairs of queues there are.
    pub pairs: u16,
    /// The MTU that the guest was told.
    pub mtu: Option<u16>,
    /// How many of the pairs the guest uses.
    pub active: u16,
    /// The offloads that the guest has set by a command, as feature bits; `None` if it has not.
    pub offloads: Option<u64>,
    /// Whether the owner of the machine has the cable plugged in.
    pub plugged: bool,
}

impl Versioned for NetState {
    const KIND: &'static str = "virtio.net";
    const VERSION: u32 = 1;
}
