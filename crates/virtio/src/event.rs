//! Events that are shared with whoever serves a queue elsewhere: it may have made them block.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use device::EventFd;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::{Errno, ReadWriteFlags, preadv2, read},
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// An event by which the server of a queue says that it has used buffers. Whoever holds it may signal
/// it; it is read by the worker only, which never waits for it.
#[derive(Debug)]
pub struct Call(OwnedFd);

impl Call {
    /// An event that was not signalled.
    ///
    /// # Errors
    /// The process or the host has no room for another file descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// The same event again.
    ///
    /// # Errors
    /// The process has no room for another file descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Signals it, without waiting: a full one is signalled already.
    pub fn signal(&self) {
        if has_room(self.as_raw_fd()).unwrap_or(true) {
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }
    }

    /// Whether it was signalled since this was last asked. Does not wait, whatever others have made of
    /// the flags of the file description, which is theirs too.
    pub(crate) fn take(&self) -> bool {
        let mut count = [0; 8];
        let flags = ReadWriteFlags::NOWAIT;
        match preadv2(&self.0, &mut [IoSliceMut::new(&mut count)], u64::MAX, flags) {
            // Linux before 5.8 has no such flag for events.
            Err(Errno::OPNOTSUPP) => self.is_signalled() && read(&self.0, &mut count).is_ok(),
            taken => taken.is_ok(),
        }
    }

    fn is_signalled(&self) -> bool {
        let mut events = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut events, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl AsRawFd for Call {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Signals `event`, which others have too. They may have made it block and filled it: then it is
/// signalled already.
pub fn signal(event: &EventFd) {
    if has_room(event.as_raw_fd()).unwrap_or(true) {
        drop(event.write(1));
    }
}

fn has_room(event: RawFd) -> io::Result<bool> {
    let epoll = Epoll::new()?;
    epoll.ctl(ControlOperation::Add, event, EpollEvent::new(EventSet::OUT, 0))?;
    Ok(epoll.wait(0, &mut [EpollEvent::default()])? > 0)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    #[test]
    fn a_full_event_that_blocks_is_left_as_it_is() {
        let event = EventFd::new(0).unwrap();
        signal(&event);
        assert_eq!(event.read().unwrap(), 1);
        event.write(u64::MAX - 1).unwrap();
        signal(&event);
        assert_eq!(event.read().unwrap(), u64::MAX - 1);
    }

    #[test]
    fn a_call_that_was_made_to_block_is_taken_and_signalled_without_waiting() {
        let call = Call::new().unwrap();
        fcntl_setfl(&call.try_clone().unwrap().0, OFlags::empty()).unwrap();
        assert!(!call.take() && !call.is_signalled());
        call.signal();
        assert!(call.is_signalled() && call.take() && !call.take());
        rustix::io::write(&call.0, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        call.signal();
        assert!(call.take() && !call.take());
    }
}
