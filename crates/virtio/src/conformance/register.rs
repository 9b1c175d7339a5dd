//! The registers that both transports have, and where each transport has them.

use super::probe::Function;

/// A register of a virtio device, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Register {
    /// Which word of the offered features is read.
    DeviceFeaturesSelect,
    /// A word of the offered features.
    DeviceFeatures,
    /// Which word of the accepted features is written.
    DriverFeaturesSelect,
    /// A word of the accepted features.
    DriverFeatures,
    /// The device status.
    Status,
    /// The configuration generation.
    Generation,
    /// Which queue the following are about.
    QueueSelect,
    /// The most entries that the device takes, when nothing was written yet.
    QueueMax,
    /// How many entries the driver wants.
    QueueSize,
    /// Whether the queue is in use.
    QueueEnable,
    /// Resets the queue.
    QueueReset,
    /// Address of the descriptor table: lower and upper half.
    Descriptors(Half),
    /// Address of the available ring.
    Driver(Half),
    /// Address of the used ring.
    Device(Half),
}

/// Half of a 64-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The lower 32 bits.
    Low,
    /// The upper 32 bits.
    High,
}

impl Half {
    fn offset(self) -> u64 {
        match self {
            Self::Low => 0,
            Self::High => 4,
        }
    }
}

/// Where a device is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Registers at `base`, line `gsi`.
    Mmio { base: u64, gsi: u32 },
    /// A function of the PCI bus.
    Pci(Function),
}

impl Place {
    /// Guest physical address and width in bytes of a register.
    pub(super) fn register(&self, register: Register) -> (u64, usize) {
        match self {
            Self::Mmio { base, .. } => (base + mmio(register), 4),
            Self::Pci(function) => {
                let (offset, width) = common(register);
                (function.common + offset, width)
            }
        }
    }
}

/// Virtio 1.3 §4.2.2.
fn mmio(register: Register) -> u64 {
    match register {
        Register::DeviceFeatures => 0x010,
        Register::DeviceFeaturesSelect => 0x014,
        Register::DriverFeatures => 0x020,
        Register::DriverFeaturesSelect => 0x024,
        Register::QueueSelect => 0x030,
        Register::QueueMax => 0x034,
        Register::QueueSize => 0x038,
        Register::QueueEnable => 0x044,
        Register::Status => 0x070,
        Register::Descriptors(half) => 0x080 + half.offset(),
        Register::Driver(half) => 0x090 + half.offset(),
        Register::Device(half) => 0x0a0 + half.offset(),
        Register::QueueReset => 0x0c0,
        Register::Generation => 0x0fc,
    }
}

/// Virtio 1.3 §4.1.4.3: offset and width.
fn common(register: Register) -> (u64, usize) {
    match register {
        Register::DeviceFeaturesSelect => (0x00, 4),
        Register::DeviceFeatures => (0x04, 4),
        Register::DriverFeaturesSelect => (0x08, 4),
        Register::DriverFeatures => (0x0c, 4),
        Register::Status => (0x14, 1),
        Register::Generation => (0x15, 1),
        Register::QueueSelect => (0x16, 2),
        Register::QueueMax | Register::QueueSize => (0x18, 2),
        Register::QueueEnable => (0x1c, 2),
        Register::Descriptors(half) => (0x20 + half.offset(), 4),
        Register::Driver(half) => (0x28 + half.offset(), 4),
        Register::Device(half) => (0x30 + half.offset(), 4),
        Register::QueueReset => (0x3a, 2),
    }
}
