//! Saved forms. None of them is a runtime type.

use device::Versioned;
use serde::{Deserialize, Serialize};
use snapshot::Section;

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingState {
    /// The most entries that the device takes.
    pub max_size: u16,
    /// How many entries the driver wants.
    pub size: u32,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the driver's area (available ring).
    pub driver: u64,
    /// Guest physical address of the device's area (used ring).
    pub device: u64,
    /// Whether the queue is in use.
    pub ready: bool,
    /// Index of the next chain to take.
    pub next_avail: u16,
    /// Index of the next chain to give back.
    pub next_used: u16,
}

/// What a worker holds: negotiation, queues and device, without the transport's registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerState {
    /// The device status field.
    pub status: u8,
    /// What the driver has accepted.
    pub features: u64,
    /// How often the configuration has changed.
    pub generation: u32,
    /// The queues.
    pub rings: Vec<RingState>,
    /// The device's own state.
    pub device: Section,
}

/// A device on the MMIO transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MmioState {
    pub(crate) device_features_sel: u32,
    pub(crate) driver_features_sel: u32,
    pub(crate) queue_sel: u32,
    pub(crate) interrupt: u32,
    pub(crate) worker: WorkerState,
}

impl Versioned for MmioState {
    const KIND: &'static str = "virtio.mmio";
    const VERSION: u32 = 1;
}

/// A device on the PCI transport, without what the bus saves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PciState {
    pub(crate) device_features_sel: u32,
    pub(crate) driver_features_sel: u32,
    pub(crate) queue_sel: u32,
    pub(crate) isr: u32,
    pub(crate) config_vector: u16,
    pub(crate) queue_vectors: Vec<u16>,
    pub(crate) worker: WorkerState,
}

impl Versioned for PciState {
    const KIND: &'static str = "virtio.pci";
    const VERSION: u32 = 1;
}
