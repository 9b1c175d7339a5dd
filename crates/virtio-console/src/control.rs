//! Control messages (virtio 1.3 §5.3.6.2): `id`, `event`, `value`, little endian, and what follows.

use std::io::{self, Write};

use virtio::{Reader, Writer};

/// Bytes of a message without what follows.
const HEADER: usize = 8;

/// What the device tells the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `VIRTIO_CONSOLE_DEVICE_ADD`: there is a port.
    Add,
    /// `VIRTIO_CONSOLE_CONSOLE_PORT`: it is a console.
    Console,
    /// `VIRTIO_CONSOLE_RESIZE`: it has this size.
    Resize,
    /// `VIRTIO_CONSOLE_PORT_OPEN`: somebody is at the other end, or nobody.
    Open,
    /// `VIRTIO_CONSOLE_PORT_NAME`: it has this name.
    Name,
}

/// One message to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) event: Event,
    pub(crate) value: u16,
    /// Follows a [`Event::Name`].
    pub(crate) name: &'a str,
    /// Follows a [`Event::Resize`]: columns and rows.
    pub(crate) size: Option<(u16, u16)>,
}

impl Message<'_> {
    pub(crate) fn of(event: Event, value: u16) -> Self {
        Self { event, value, name: "", size: None }
    }

    /// Writes the message about port number `port`: how many bytes, or `None` if there is no room.
    pub(crate) fn write(&self, port: u32, to: &mut Writer<'_>) -> io::Result<Option<usize>> {
        let size = self.size.map_or([0; 4], |(cols, rows)| {
            let ([a, b], [c, d]) = (cols.to_le_bytes(), rows.to_le_bytes());
            [a, b, c, d]
        });
        let more = match self.event {
            Event::Name => self.name.as_bytes(),
            Event::Resize => &size,
            Event::Add | Event::Console | Event::Open => &[],
        };
        let len = HEADER.saturating_add(more.len());
        if to.available_bytes() < len {
            return Ok(None);
        }
        let [a, b, c, d] = port.to_le_bytes();
        let event = self.event.number().to_le_bytes();
        let ([e, f], [g, h]) = (event, self.value.to_le_bytes());
        to.write_all(&[a, b, c, d, e, f, g, h])?;
        to.write_all(more)?;
        Ok(Some(len))
    }
}

impl Event {
    fn number(self) -> u16 {
        match self {
            Self::Add => 1,
            Self::Console => 4,
            Self::Resize => 5,
            Self::Open => 6,
            Self::Name => 7,
        }
    }
}

/// What the driver tells the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// `VIRTIO_CONSOLE_DEVICE_READY`: it wants to know of ports, or cannot.
    DeviceReady(bool),
    /// `VIRTIO_CONSOLE_PORT_READY`: it has set up this port, or could not.
    PortReady(u32, bool),
    /// `VIRTIO_CONSOLE_PORT_OPEN`: a program has opened or closed this port.
    Open(u32, bool),
}

impl Told {
    /// Reads one message; `None` for what is none that a driver sends.
    pub(crate) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let [a, b, c, d, e, f, g, h] = from.read_obj::<[u8; HEADER]>().ok()?;
        let port = u32::from_le_bytes([a, b, c, d]);
        let on = u16::from_le_bytes([g, h]) != 0;
        match u16::from_le_bytes([e, f]) {
            0 => Some(Self::DeviceReady(on)),
            3 => Some(Self::PortReady(port, on)),
            6 => Some(Self::Open(port, on)),
            _ => None,
        }
    }
}
