//! Waiting for a device outside the event loop, while it ends what it has kept.

use std::{io, os::fd::RawFd, thread, time::Duration};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// How long one wait is at most, milliseconds: a source that was ready before the wait began may not
/// become so again.
const AT_MOST: u16 = 10;

/// The sources of one device. A host that cannot wait for them has them looked at now and then.
pub(crate) struct Sources(Option<Epoll>);

impl Sources {
    pub(crate) fn new(sources: &[RawFd]) -> Self {
        Self(epoll(sources).ok())
    }

    /// Returns when a source is ready, or soon.
    pub(crate) fn wait(&self) {
        let mut events = [EpollEvent::default()];
        let waited = self.0.as_ref().map(|epoll| epoll.wait(AT_MOST.into(), &mut events));
        if !matches!(waited, Some(Ok(_))) {
            thread::sleep(Duration::from_millis(AT_MOST.into()));
        }
    }
}

fn epoll(sources: &[RawFd]) -> io::Result<Epoll> {
    let epoll = Epoll::new()?;
    for &source in sources {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        epoll.ctl(ControlOperation::Add, source, event)?;
    }
    Ok(epoll)
}
