//! A backend for a device that must not wait.

use std::{
    fmt, io,
    os::fd::{AsRawFd, RawFd},
};

use nix::errno::Errno;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::{Backend, shared::Shared, sink::Sink};
use crate::serial::input::Source;

/// A [`Backend`] whose reads and writes never wait: what cannot be done now is
/// [`io::ErrorKind::WouldBlock`], and [`fd`](Self::fd) is reported when it is worth trying again. Unlike
/// a serial port's, its output is not lost when nobody reads it; while nobody is connected it is.
///
/// A writer of the caller's own ([`Backend::new`]) is used as it is, and waits if it does.
pub struct Stream {
    sink: Shared<dyn Sink>,
    source: Option<Shared<dyn Source>>,
    /// Watches both. It is one descriptor however clients come and go.
    epoll: Epoll,
    /// The source's descriptor that is watched.
    watched: Option<RawFd>,
    /// Whether the source can always be read, as regular files can.
    always: bool,
}

/// What events of the source carry.
const SOURCE: u64 = 0;
/// What events of the sink carry.
const SINK: u64 = 1;

impl Stream {
    /// The end that `backend` is.
    ///
    /// # Errors
    /// The host gives no further descriptor.
    pub fn new(backend: Backend) -> io::Result<Self> {
        let Backend { sink, source, .. } = backend;
        let epoll = Epoll::new()?;
        let mut stream = Self { sink, source, epoll, watched: None, always: false };
        stream.watch();
        if let Some(fd) = stream.sink.fd().filter(|fd| Some(*fd) != stream.watched) {
            stream.add(fd, EventSet::OUT | EventSet::EDGE_TRIGGERED, SINK);
        }
        Ok(stream)
    }

    /// Reported as readable, edge-triggered, when something has changed: there is input, there is room
    /// for output, somebody has come or gone. It is the same as long as the stream lives.
    pub fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Whether somebody is at the other end. Only a socket has clients whose coming and going is
    /// known; whatever else it is, somebody is there.
    pub fn is_connected(&mut self) -> bool {
        let Some(source) = &mut self.source else { return true };
        let connected = source.connected();
        self.watch();
        connected
    }

    /// Reads what is there; 0 bytes mean that there is no more to come.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is there now.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.watch();
            let Some(source) = &mut self.source else { return Ok(0) };
            // A descriptor that blocks is read when it has something.
            if !source.edge() && !self.always && !is_ready(&self.epoll)? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            match source.read(buffer) {
                Ok(read) if read > 0 => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                result => {
                    if let Err(error) = result {
                        log::debug!("input ends: {error}");
                    }
                    self.unwatch();
                    if !self.source.as_mut().is_some_and(Source::next) {
                        self.source = None;
                    }
                }
            }
        }
    }

    /// Writes what can be written at once. While nobody is connected that is all of it, and lost.
    ///
    /// # Errors
    /// `WouldBlock`: nothing can be written now. Others: the host does not take it.
    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        loop {
            match self.sink.try_write(data) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Watches the descriptor that the source has now.
    fn watch(&mut self) {
        let fd = self.source.as_ref().map(Source::fd);
        if fd == self.watched {
            return;
        }
        self.unwatch();
        if let (Some(fd), Some(source)) = (fd, &self.source) {
            let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP;
            // One that blocks is watched by its level, so that we can ask before we read.
            let edge = if source.edge() { EventSet::EDGE_TRIGGERED } else { EventSet::empty() };
            self.always = !self.add(fd, events | edge, SOURCE);
        }
        self.watched = fd;
    }

    fn unwatch(&mut self) {
        if let Some(fd) = self.watched.take() {
            // It is not watched if it could not be, or was closed.
            drop(self.epoll.ctl(ControlOperation::Delete, fd, EpollEvent::default()));
        }
    }

    /// Watches `fd`: whether it can be watched.
    fn add(&self, fd: RawFd, events: EventSet, data: u64) -> bool {
        match self.epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, data)) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => false,
            Err(error) => {
                log::warn!("a console cannot be watched: {error}");
                false
            }
        }
    }
}

/// Whether the source has something, or has ended.
fn is_ready(epoll: &Epoll) -> io::Result<bool> {
    let mut events = [EpollEvent::default(); 2];
    let count = match epoll.wait(0, &mut events) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        result => result?,
    };
    let some = EventSet::IN | EventSet::HANG_UP | EventSet::READ_HANG_UP | EventSet::ERROR;
    let is_input =
        |event: &EpollEvent| event.data() == SOURCE && event.event_set().intersects(some);
    Ok(events.iter().take(count).any(is_input))
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("watched", &self.watched).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
