//! What a driver can ask for.

use std::io;

use virtio::Reader;

use crate::blocks::State;

const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;

/// A request (virtio 1.3 §5.15.6), as the driver made it: nothing is checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Plug(Extent),
    Unplug(Extent),
    UnplugAll,
    State(Extent),
    Unknown,
}

/// Blocks, named by the address of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) addr: u64,
    pub(crate) count: u16,
}

impl Request {
    /// Reads a request, once.
    ///
    /// # Errors
    /// There is less than its 24 bytes.
    pub(crate) fn read(reader: &mut Reader<'_>) -> io::Result<Self> {
        let kind = u16::from_le_bytes(reader.read_obj()?);
        let _: [u8; 6] = reader.read_obj()?;
        let addr = u64::from_le_bytes(reader.read_obj()?);
        let count = u16::from_le_bytes(reader.read_obj()?);
        let _: [u8; 6] = reader.read_obj()?;
        let extent = Extent { addr, count };
        Ok(match kind {
            PLUG => Self::Plug(extent),
            UNPLUG => Self::Unplug(extent),
            UNPLUG_ALL => Self::UnplugAll,
            STATE => Self::State(extent),
            _ => Self::Unknown,
        })
    }
}

/// An answer. Only one to [`Request::State`] says more than how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    State(State),
    /// More than was requested.
    Refused,
    /// Perhaps later.
    Busy,
    /// A request that makes no sense.
    Error,
}

impl Answer {
    /// Size, bytes.
    pub(crate) const LEN: usize = 10;

    pub(crate) fn bytes(self) -> [u8; Self::LEN] {
        let (kind, state) = match self {
            Self::Done | Self::State(State::Plugged) => (0, 0),
            Self::State(State::Unplugged) => (0, 1),
            Self::State(State::Mixed) => (0, 2),
            Self::Refused => (1, 0),
            Self::Busy => (2, 0),
            Self::Error => (3, 0),
        };
        [kind, 0, 0, 0, 0, 0, 0, 0, state, 0]
    }
}
