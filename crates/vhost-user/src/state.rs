//! The saved form.

use device::Versioned;
use serde::{Deserialize, Serialize};

/// The saved form of a [`VhostUser`](crate::VhostUser): what the driver sees. What the back end holds
/// beyond that is its own and is not saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VhostUserState {
    /// The device type.
    pub id: u32,
    /// The configuration space.
    pub config: Vec<u8>,
}

impl Versioned for VhostUserState {
    const KIND: &'static str = "vhost-user";
    const VERSION: u32 = 1;
}
