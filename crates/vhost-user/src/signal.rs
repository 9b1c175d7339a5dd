//! Events that are shared with a back end.

use std::{io, os::fd::AsRawFd};

use device::EventFd;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Signals `event`. A back end may have made it block and filled it; then it is signalled already.
pub(crate) fn signal(event: &EventFd) {
    if has_room(event).unwrap_or(true) {
        drop(event.write(1));
    }
}

fn has_room(event: &EventFd) -> io::Result<bool> {
    let epoll = Epoll::new()?;
    let writable = EpollEvent::new(EventSet::OUT, 0);
    epoll.ctl(ControlOperation::Add, event.as_raw_fd(), writable)?;
    Ok(epoll.wait(0, &mut [EpollEvent::default()])? > 0)
}

#[cfg(test)]
mod tests {
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
}
