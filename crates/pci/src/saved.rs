//! The saved form of the bus.

use serde::{Deserialize, Serialize};
use snapshot::Versioned;

use crate::SavedMsix;

/// The saved form of a [`Root`](crate::Root).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedRoot {
    /// The address register at port 0xcf8.
    pub address: u32,
    /// Which devices have come without the guest knowing, a bit for each.
    pub came: u32,
    /// Which devices are to go without the guest knowing, a bit for each.
    pub leaving: u32,
    /// The functions, by ascending device number.
    pub functions: Vec<SavedFunction>,
}

/// The saved form of one function, without what it saves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedFunction {
    /// Its device number on bus 0.
    pub device: u8,
    /// The dwords of its configuration space.
    pub config: Vec<u32>,
    /// Its MSI-X vectors.
    pub msix: Option<SavedMsix>,
}

impl Versioned for SavedRoot {
    const KIND: &'static str = "pci.root";
    const VERSION: u32 = 1;
}
