//! One port: what the guest has of it, and what the host has.

use std::io;

use legacy::{Backend, Stream};

use crate::control::{Event, Message};

/// A port as its owner describes it.
#[derive(Clone, Debug)]
pub struct Port {
    pub(crate) backend: Backend,
    pub(crate) name: Option<String>,
    pub(crate) console: bool,
}

impl Port {
    /// A terminal: the guest runs a console on it, `/dev/hvc0` for the first in Linux.
    pub fn console(backend: Backend) -> Self {
        Self { backend, name: None, console: true }
    }

    /// A stream of bytes that the guest's programs open by `name`: `/dev/virtio-ports/NAME` in Linux.
    pub fn stream(backend: Backend, name: impl Into<String>) -> Self {
        Self { backend, name: Some(name.into()), console: false }
    }

    /// Gives the port a name, which consoles need not have.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

/// A port that is in use.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) stream: Stream,
    pub(crate) name: Option<String>,
    pub(crate) console: bool,
    pub(crate) known: Known,
    /// How much of the chain at hand has gone to the host.
    pub(crate) sent: Sent,
}

/// The part of a chain that is behind us. A chain that is not the one it was is one of a queue that was
/// reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) head: u16,
    pub(crate) of: u64,
    pub(crate) bytes: u64,
}

/// What guest and host have told each other by control messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The guest knows of the port.
    pub(crate) added: bool,
    /// The guest has set it up.
    pub(crate) ready: bool,
    /// A program of the guest has it open.
    pub(crate) open: bool,
    /// The guest is to be told that it is a console.
    pub(crate) tell_console: bool,
    /// The guest is to be told its name.
    pub(crate) tell_name: bool,
    /// The guest is to be told its size.
    pub(crate) tell_size: bool,
    /// What the guest was told of somebody being at the other end.
    pub(crate) told_open: bool,
}

impl Line {
    pub(crate) fn new(port: Port) -> io::Result<Self> {
        let Port { backend, name, console } = port;
        let (known, sent) = (Known::default(), Sent::default());
        Ok(Self { stream: Stream::new(backend)?, name, console, known, sent })
    }

    /// Back to what no driver has touched.
    pub(crate) fn reset(&mut self) {
        (self.known, self.sent) = (Known::default(), Sent::default());
    }

    /// The driver has set the port up, or could not.
    pub(crate) fn set_ready(&mut self, ready: bool) {
        if !self.known.added {
            return;
        }
        self.known = Known {
            ready,
            tell_console: ready && self.console,
            tell_name: ready && self.name.is_some(),
            tell_size: ready && self.console,
            told_open: false,
            ..self.known
        };
    }

    /// What the guest is to be told of the port next, if anything. `added` says whether it wants to
    /// know of ports at all, `size` is that of the terminal if it has one.
    pub(crate) fn next(&mut self, wanted: bool, size: Option<(u16, u16)>) -> Option<Message<'_>> {
        let known = self.known;
        if wanted && !known.added {
            return Some(Message::of(Event::Add, 0));
        }
        if !known.ready {
            return None;
        }
        if known.tell_console {
            return Some(Message::of(Event::Console, 1));
        }
        if known.tell_name {
            let name = self.name.as_deref().unwrap_or_default();
            return Some(Message { name, ..Message::of(Event::Name, 1) });
        }
        if known.tell_size && size.is_some() {
            return Some(Message { size, ..Message::of(Event::Resize, 0) });
        }
        let open = self.stream.is_connected();
        (open != known.told_open).then(|| Message::of(Event::Open, open.into()))
    }

    /// The guest was told.
    pub(crate) fn told(&mut self, event: Event, value: u16) {
        let known = &mut self.known;
        match event {
            Event::Add => known.added = true,
            Event::Console => known.tell_console = false,
            Event::Name => known.tell_name = false,
            Event::Resize => known.tell_size = false,
            Event::Open => known.told_open = value != 0,
        }
    }
}
