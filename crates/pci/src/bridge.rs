//! The host bridge, which every bus 0 has at 00:00.0.

use device::{Identity, PciFunction};

/// A host bridge without registers.
pub(crate) struct HostBridge;

impl PciFunction for HostBridge {
    fn identity(&self) -> Identity {
        Identity {
            // Red Hat's number for the generic PCI Express host bridge of virtual machines.
            vendor: 0x1b36,
            device: 0x0008,
            class: [0x06, 0x00, 0x00],
            ..Identity::default()
        }
    }
}
