//! The saved form.

use device::Versioned;
use serde::{Deserialize, Serialize};

/// What an [`Fs`](crate::Fs) holds besides the directory, whose content is not part of a snapshot:
/// what the guest knows of it, and what it has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsState {
    /// The name by which the guest mounts the directory.
    pub tag: String,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// The device that the directory is on, major and minor number.
    pub device: (u32, u32),
    /// What the guest has numbers for, in their order.
    pub places: Vec<Place>,
    /// The next number.
    pub next_place: u64,
    /// What is open, in the order of numbers.
    pub open: Vec<Opened>,
    /// The next number of something open.
    pub next_open: u64,
}

/// Something that the guest has a number for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The number.
    pub node: u64,
    /// The number of the directory that it is in.
    pub parent: u64,
    /// Its name there.
    pub name: String,
    /// How often the guest was told the number, less what it has forgotten.
    pub lookups: u64,
    /// What it is: the bits of a mode that say so.
    pub kind: u32,
    /// The device that it is on, major and minor number.
    pub device: (u32, u32),
    /// Its number on the host.
    pub ino: u64,
    /// When it was made, seconds and nanoseconds, as far as the host knows.
    pub born: (i64, u32),
}

/// Something open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Its number.
    pub handle: u64,
    /// The number of the place that it is.
    pub node: u64,
    /// The flags that it was opened with.
    pub flags: u32,
}

impl Versioned for FsState {
    const KIND: &'static str = "virtio.fs";
    const VERSION: u32 = 1;
}
