//! Why a function cannot be put on the bus.

use std::io;

use device::Bdf;

/// What is wrong with what a function declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// The vendor that means that nobody is there.
    #[error("vendor 0xffff means that a slot is empty; a function has another")]
    Vendor,
    /// There is no such register.
    #[error("BAR {index} of this kind does not exist; BARs are 0 to 5, and 64-bit ones take two")]
    BarIndex {
        /// The register.
        index: u8,
    },
    /// The size cannot be decoded.
    #[error(
        "BAR {index} has {size:#x} bytes; expected a power of two that its kind of register can hold"
    )]
    BarSize {
        /// The register.
        index: u8,
        /// Its size, bytes.
        size: u64,
    },
    /// Two BARs in one register.
    #[error("BAR {index} is declared twice, or is the upper half of a 64-bit one")]
    BarTaken {
        /// The register.
        index: u8,
    },
    /// The list of capabilities is full.
    #[error("capability {id:#04x} of {len:#x} bytes does not fit; {room:#x} bytes are left")]
    CapabilityRoom {
        /// Which capability.
        id: u8,
        /// Its length, bytes.
        len: usize,
        /// What is left, bytes.
        room: usize,
    },
    /// A field of a window lies outside its capability.
    #[error("the window of capability {id:#04x} has fields outside of its {len:#x} bytes")]
    Window {
        /// Which capability.
        id: u8,
        /// The length of its body, bytes.
        len: usize,
    },
    /// The MSI-X structures cannot be where they are said to be.
    #[error(
        "{vectors} MSI-X vectors at {table:#x} with pending bits at {pba:#x} do not fit BAR {bar}; \
         expected 1 to 2048 in memory, apart from each other, at multiples of 8"
    )]
    Msix {
        /// How many vectors.
        vectors: u16,
        /// The BAR.
        bar: u8,
        /// Offset of the table.
        table: u32,
        /// Offset of the pending bits.
        pba: u32,
    },
    /// A doorbell outside of its BAR.
    #[error("the doorbell at {offset:#x} is not in BAR {bar}; expected one in a memory BAR")]
    Doorbell {
        /// The BAR.
        bar: u8,
        /// Where it was to be.
        offset: u64,
    },
}

/// Why a function was not put on the bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// The function declares what cannot be.
    #[error("the function declares what cannot be")]
    Function(#[from] FunctionError),
    /// Somebody is there.
    #[error("slot {device} of the PCI bus cannot be used; it is taken, or beyond 31")]
    Taken {
        /// The device number.
        device: u8,
    },
    /// Every slot is taken.
    #[error("every slot of the PCI bus is taken; it has 32, one of them for the host bridge")]
    NoSlot,
    /// The windows are full.
    #[error("no room for the {size:#x} bytes of BAR {index} in the windows of the PCI bus")]
    NoRoom {
        /// The register.
        index: u8,
        /// Its size, bytes.
        size: u64,
    },
    /// The host has no interrupt left.
    #[error("the host gives no message-signalled interrupt")]
    Msi(#[source] io::Error),
}

/// Why a function cannot be taken from the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// Nobody is there.
    #[error("there is no function at {0} of the PCI bus")]
    Absent(Bdf),
    /// The bus would be none without it.
    #[error("the host bridge at {0} stays as long as the bus")]
    Bridge(Bdf),
}
