//! The tables that describe the machine to its kernel.

mod acpi;
mod bytes;
mod mp;
mod smbios;

use memory::GuestMemory;

use crate::{BootError, Platform, place, ram};

/// Which descriptions of the processors and devices the guest is given. SMBIOS is always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tables {
    /// ACPI only.
    Acpi,
    /// The MP table only. There is no RSDP, so that a kernel turns ACPI off by itself, and virtio
    /// devices are on the command line.
    MpTable,
    /// Both: a kernel takes ACPI if it knows it.
    #[default]
    Both,
}

impl Tables {
    /// Whether there is ACPI.
    pub fn acpi(self) -> bool {
        matches!(self, Self::Acpi | Self::Both)
    }

    /// Whether there is an MP table.
    pub fn mp_table(self) -> bool {
        matches!(self, Self::MpTable | Self::Both)
    }
}

/// Why the machine cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TablesError {
    /// More than there is room for.
    #[error(
        "the {table} needs {len} bytes; there is room for {room}, so give the machine fewer devices"
    )]
    NoRoom {
        /// Which table.
        table: &'static str,
        /// What it needs, bytes.
        len: u64,
        /// What there is, bytes.
        room: u64,
    },
    /// More devices than can be named.
    #[error("{nodes} devices cannot be named in ACPI; expected at most {most}")]
    TooManyNodes {
        /// How many nodes were announced.
        nodes: usize,
        /// How many can be.
        most: usize,
    },
    /// A number that the table's field cannot hold.
    #[error("the {field} {value:#x} does not fit the {table}; expected at most {most:#x}")]
    Field {
        /// Which table.
        table: &'static str,
        /// Which number.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The most that fits.
        most: u64,
    },
}

/// Writes the tables and says where the RSDP is; 0 if there is none.
pub(crate) fn write(
    memory: &GuestMemory,
    platform: &Platform<'_>,
    tables: Tables,
) -> Result<u64, BootError> {
    for block in smbios::build(platform)? {
        block.write(memory)?;
    }
    if tables.mp_table() {
        for block in mp::build(platform)? {
            block.write(memory)?;
        }
    }
    if !tables.acpi() {
        return Ok(0);
    }
    acpi::build(platform)?.write(memory)?;
    Ok(place::ACPI)
}

/// Bytes and where they go.
#[derive(Debug)]
struct Block {
    what: &'static str,
    address: u64,
    bytes: Vec<u8>,
}

impl Block {
    /// `bytes` at `address`, if there are at most `room`.
    fn new(
        what: &'static str,
        address: u64,
        room: u64,
        bytes: Vec<u8>,
    ) -> Result<Self, TablesError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if len > room {
            return Err(TablesError::NoRoom { table: what, len, room });
        }
        Ok(Self { what, address, bytes })
    }

    fn write(&self, memory: &GuestMemory) -> Result<(), BootError> {
        ram::put(memory, self.what, self.address, &self.bytes)
    }
}
