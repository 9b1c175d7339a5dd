//! Feeding a UART from a file descriptor, no faster than the guest reads.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, Mutex},
};

use device::{EventFd, EventOps, EventSet, Events, MutEventSubscriber};
use nix::errno::Errno;

use super::uart::Uart;
use crate::lock;

/// Where received bytes come from: one descriptor at a time, watched for input.
pub(super) trait Source: Send {
    /// The descriptor to watch at present. It stays open until [`next`](Source::next) returns.
    fn fd(&self) -> RawFd;

    /// Whether the descriptor must be watched for edges, and read until it says `WouldBlock`,
    /// because it reports a hang-up for as long as nobody is connected.
    fn edge(&self) -> bool {
        false
    }

    /// Reads what is there; 0 bytes or an error mean that this descriptor is done.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Goes on to another descriptor after one is done; `false` if there is none.
    fn next(&mut self) -> bool {
        false
    }

    /// Whether somebody is there, after letting in who waits. What has no clients that come and go
    /// always has somebody.
    fn connected(&mut self) -> bool {
        true
    }
}

/// A descriptor that is read until its end.
pub(super) struct Descriptor<S>(pub(super) S);

impl<S: io::Read + AsRawFd + Send> Source for Descriptor<S> {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// The I/O thread tells when there is input.
    Armed,
    /// The guest's FIFO is full: not watched until it has been drained.
    Parked,
    /// Nothing to wait for (a regular file): read whenever there is room.
    Always,
    /// The input has ended; the guest runs on.
    Ended,
}

/// What one attempt to read came to.
enum Got {
    Bytes,
    Nothing,
    End,
}

/// Moves bytes from a [`Source`] into a [`Uart`], at most as many as its FIFO has room for.
///
/// While the FIFO is full the source is not watched, so that a level-triggered epoll does not spin;
/// the UART's `drained` event wakes it again.
pub(super) struct Input {
    source: Box<dyn Source>,
    uart: Arc<Mutex<Uart>>,
    drained: EventFd,
    /// Read, but the guest switched to loopback before the FIFO could take it.
    held: Vec<u8>,
    watch: Watch,
}

impl Input {
    pub(super) fn new(source: Box<dyn Source>, uart: Arc<Mutex<Uart>>, drained: EventFd) -> Self {
        Self { source, uart, drained, held: Vec::new(), watch: Watch::Ended }
    }

    fn arm(&mut self, ops: &mut EventOps) {
        let edge = if self.source.edge() { EventSet::EDGE_TRIGGERED } else { EventSet::empty() };
        let events = Events::new_raw(self.source.fd(), EventSet::IN | edge);
        match ops.add(events) {
            Ok(()) => self.watch = Watch::Armed,
            // epoll refuses what can always be read: regular files, /dev/null.
            Err(event_manager::Error::Epoll(error)) if error.errno() == Errno::EPERM as i32 => {
                self.watch = Watch::Always;
                self.pump(ops, false);
            }
            Err(error) => {
                log::warn!("serial input cannot be watched, the guest gets none: {error}");
                self.watch = Watch::Ended;
            }
        }
    }

    fn disarm(&mut self, ops: &mut EventOps) {
        if self.watch == Watch::Armed
            && let Err(error) = ops.remove(Events::empty_raw(self.source.fd()))
        {
            log::warn!("serial input cannot be taken off the watch: {error}");
        }
    }

    fn park(&mut self, ops: &mut EventOps) {
        if self.watch == Watch::Armed && !self.source.edge() {
            self.disarm(ops);
            self.watch = Watch::Parked;
        }
    }

    fn end(&mut self, ops: &mut EventOps) {
        self.disarm(ops);
        self.watch = Watch::Ended;
        if self.source.next() {
            self.arm(ops);
        }
    }

    /// The guest has drained its FIFO.
    fn resume(&mut self, ops: &mut EventOps) {
        match self.watch {
            Watch::Parked => {
                if self.deliver().is_some() {
                    self.arm(ops);
                }
            }
            Watch::Always => self.pump(ops, false),
            Watch::Armed if self.source.edge() => self.pump(ops, false),
            Watch::Armed | Watch::Ended => {}
        }
    }

    fn pump(&mut self, ops: &mut EventOps, hung_up: bool) {
        loop {
            let Some(room) = self.deliver() else { return self.park(ops) };
            match self.fill(room) {
                Got::Bytes => {}
                Got::Nothing if hung_up && !self.source.edge() => return self.end(ops),
                Got::Nothing => return,
                Got::End => return self.end(ops),
            }
            if self.deliver().is_none() {
                return self.park(ops);
            }
            if self.watch == Watch::Armed && !self.source.edge() {
                return;
            }
        }
    }

    /// Gives the guest what is held; returns how much more it can take, if it can take any.
    fn deliver(&mut self) -> Option<usize> {
        let mut uart = lock(&self.uart);
        let taken = uart.receive(&self.held);
        self.held.drain(..taken.min(self.held.len()));
        Some(uart.room()).filter(|room| *room > 0 && self.held.is_empty())
    }

    fn fill(&mut self, room: usize) -> Got {
        self.held.resize(room, 0);
        let result = self.source.read(&mut self.held);
        self.held.truncate(*result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Got::End,
            Ok(_) => Got::Bytes,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Got::Nothing,
                _ => {
                    log::debug!("serial input ends: {error}");
                    Got::End
                }
            },
        }
    }
}

impl MutEventSubscriber for Input {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.drained, EventSet::IN)) {
            log::warn!("serial input cannot be watched, the guest gets none: {error}");
            return;
        }
        self.arm(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.drained.as_raw_fd() {
            // Resets the event; that it was signalled is all it has to say.
            let _count = self.drained.read();
            self.resume(ops);
        } else if self.watch == Watch::Armed {
            let hang_up = EventSet::HANG_UP | EventSet::ERROR;
            self.pump(ops, events.event_set().intersects(hang_up));
        }
    }
}
