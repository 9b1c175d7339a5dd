//! The device.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use device::EventFd;
use virtio::{Chain, Device, Served};

use crate::{
    Port,
    control::{Message, Told},
    port::Line,
    transfer::Sending,
};

/// The most ports that a console has.
pub const MAX_PORTS: usize = 31;
/// The longest name of a port, bytes: what is left of a page that Linux receives messages in is far
/// more, but names become names of files.
const NAME: usize = 128;
/// Entries of each queue.
const SIZE: u16 = 64;
/// One queue size for each queue that there may be.
const SIZES: [u16; 2 * (MAX_PORTS + 1)] = [SIZE; 2 * (MAX_PORTS + 1)];

/// `VIRTIO_CONSOLE_F_SIZE`: the first port's size is in the configuration.
const F_SIZE: u64 = 1 << 0;
/// `VIRTIO_CONSOLE_F_MULTIPORT`: there are several ports, and queues to talk about them.
const F_MULTIPORT: u64 = 1 << 1;

/// Why a console cannot be as described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// There is no port, or there are too many.
    #[error("{0} ports; a console has 1 to {MAX_PORTS}")]
    Count(usize),
    /// A name is not one.
    #[error(
        "`{0}` cannot name a port; a name has 1 to {NAME} bytes, none of them `/` or a control character"
    )]
    Name(String),
    /// Two ports have one name.
    #[error("two ports are named `{0}`; give one of them another name")]
    SameName(String),
    /// The host gives no descriptor.
    #[error("the host gives no descriptor for a port")]
    Host(#[from] io::Error),
}

/// The console: one port or more.
#[derive(Debug)]
pub struct Console {
    pub(crate) lines: Vec<Line>,
    /// Columns and rows, and the number of ports.
    config: [u8; 12],
    pub(crate) size: Option<(u16, u16)>,
    /// The driver uses the control queues.
    multiport: bool,
    /// The driver wants to know of ports.
    pub(crate) wanted: bool,
    /// Has a chain that had its turn served again.
    again: EventFd,
    failures: u64,
}

impl Console {
    /// A console with `ports`. A single one without a name is a plain console, which every driver
    /// knows; other kinds need one that knows of several ports (Linux does).
    ///
    /// # Errors
    /// There are none or too many, a name cannot be one, or the host gives no descriptors.
    pub fn new(ports: Vec<Port>) -> Result<Self, ConsoleError> {
        if ports.is_empty() || ports.len() > MAX_PORTS {
            return Err(ConsoleError::Count(ports.len()));
        }
        check_names(&ports)?;
        let lines = ports.into_iter().map(Line::new).collect::<Result<Vec<_>, _>>()?;
        let mut config = [0; 12];
        let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        if let Some(place) = config.get_mut(4..8) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        let again = EventFd::new(0)?;
        let (size, multiport, wanted) = (None, false, false);
        Ok(Self { lines, config, size, multiport, wanted, again, failures: 0 })
    }

    /// The terminal has so many columns and rows now; the guest is told.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        self.set_size(Some((cols, rows)));
        for line in &mut self.lines {
            line.known.tell_size = line.known.ready && line.console;
        }
    }

    pub(crate) fn set_size(&mut self, size: Option<(u16, u16)>) {
        self.size = size;
        let (cols, rows) = size.unwrap_or_default();
        let bytes = cols.to_le_bytes().into_iter().chain(rows.to_le_bytes());
        self.config.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    }

    /// Whether this needs a driver that knows of several ports.
    fn has_several(&self) -> bool {
        self.lines.len() > 1 || self.lines.iter().any(|line| !line.console || line.name.is_some())
    }

    fn transmit(&mut self, port: usize, chain: &Chain<'_>) -> Served {
        let Some(line) = self.lines.get_mut(port) else { return Served::Used(0) };
        match line.send(chain) {
            Sending::Done => {}
            Sending::Waits => return Served::Stall,
            Sending::Yields => {
                // It is never read: each write is an edge.
                drop(self.again.write(1));
                return Served::Stall;
            }
            Sending::Failed(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures.is_power_of_two() {
                    let count = self.failures;
                    log::warn!("output of console port {port} is lost: {error} ({count} so far)");
                }
            }
        }
        Served::Used(0)
    }

    fn receive(&mut self, port: usize, chain: &mut Chain<'_>) -> Served {
        let Some(line) = self.lines.get_mut(port) else { return Served::Stall };
        // What a program is to read waits until one is there; a guest throws it away before.
        if self.multiport && !line.known.open {
            return Served::Stall;
        }
        line.receive(chain)
    }

    /// Tells the driver the next thing that it does not know.
    fn tell(&mut self, chain: &mut Chain<'_>) -> Served {
        let Self { lines, wanted, size, .. } = self;
        for (line, port) in lines.iter_mut().zip(0..) {
            let Some(message) = line.next(*wanted, *size) else { continue };
            let Message { event, value, .. } = message;
            return match message.write(port, &mut chain.writer) {
                Ok(Some(len)) => {
                    line.told(event, value);
                    Served::Used(u32::try_from(len).unwrap_or(0))
                }
                // The driver may offer a larger buffer.
                Ok(None) | Err(_) => Served::Used(0),
            };
        }
        Served::Stall
    }

    /// The driver tells us something. What makes no sense is passed over.
    fn hear(&mut self, told: Told) {
        let line = |port: u32| usize::try_from(port).ok();
        match told {
            Told::DeviceReady(wanted) => self.wanted = wanted,
            Told::PortReady(port, ready) => {
                if let Some(line) = line(port).and_then(|port| self.lines.get_mut(port)) {
                    line.set_ready(ready);
                }
            }
            Told::Open(port, open) => {
                if let Some(line) = line(port).and_then(|port| self.lines.get_mut(port)) {
                    line.known.open = open && line.known.ready;
                }
            }
        }
    }
}

fn check_names(ports: &[Port]) -> Result<(), ConsoleError> {
    let names = || ports.iter().filter_map(|port| port.name.as_deref());
    for (index, name) in names().enumerate() {
        let is_bad = |char: char| char == '/' || char.is_control();
        if name.is_empty() || name.len() > NAME || name.contains(is_bad) {
            return Err(ConsoleError::Name(name.to_owned()));
        }
        if names().take(index).any(|other| other == name) {
            return Err(ConsoleError::SameName(name.to_owned()));
        }
    }
    Ok(())
}

/// What a queue is for (virtio 1.3 §5.3.2).
enum Queue {
    Receive(usize),
    Transmit(usize),
    Tell,
    Hear,
}

impl Queue {
    fn of(number: u16) -> Self {
        let pair = usize::from(number / 2);
        // The second pair is that of the control queues.
        let port = if pair == 0 { 0 } else { pair - 1 };
        match (pair, number % 2) {
            (1, 0) => Self::Tell,
            (1, _) => Self::Hear,
            (_, 0) => Self::Receive(port),
            (_, _) => Self::Transmit(port),
        }
    }
}

impl Device for Console {
    const ID: u32 = 3;

    fn features(&self) -> u64 {
        if self.has_several() { F_SIZE | F_MULTIPORT } else { F_SIZE }
    }

    fn queues(&self) -> &[u16] {
        let count = if self.has_several() { 2 * (self.lines.len() + 1) } else { 2 };
        SIZES.get(..count).unwrap_or(&SIZES)
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn negotiated(&mut self, features: u64) {
        self.multiport = features & F_MULTIPORT != 0;
    }

    fn reset(&mut self) {
        self.lines.iter_mut().for_each(Line::reset);
        (self.multiport, self.wanted) = (false, false);
    }

    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served {
        match Queue::of(queue) {
            Queue::Receive(port) => self.receive(port, chain),
            Queue::Transmit(port) => self.transmit(port, chain),
            Queue::Tell => self.tell(chain),
            Queue::Hear => {
                if let Some(told) = Told::read(&mut chain.reader) {
                    self.hear(told);
                }
                Served::Used(0)
            }
        }
    }

    fn sources(&self) -> Vec<RawFd> {
        let streams = self.lines.iter().map(|line| line.stream.fd());
        streams.chain([self.again.as_raw_fd()]).collect()
    }
}
