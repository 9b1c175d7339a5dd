//! What becomes ready: any number of sockets and a deadline behind one descriptor.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Instant,
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

/// How many events are taken at a time.
const BATCH: usize = 64;
const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// The sockets of a device, watched by one epoll descriptor, edge-triggered.
pub(crate) struct Watch {
    epoll: Epoll,
    timer: TimerFd,
    deadline: Option<Instant>,
    events: [EpollEvent; BATCH],
    filled: usize,
    next: usize,
}

/// Something has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Somebody wants to be accepted.
    Listener,
    /// The deadline is over.
    Deadline,
    /// The socket that was added with this token is ready.
    Socket(u64, Ready),
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// There is data, or the end of it.
    pub(crate) read: bool,
    /// There is room.
    pub(crate) write: bool,
    /// Both directions are shut.
    pub(crate) gone: bool,
}

impl Watch {
    /// Watches `listener` and the time.
    pub(crate) fn new(listener: impl AsFd) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(listener, EpollEvent::new(edge, LISTENER))?;
        epoll.add(&timer, EpollEvent::new(edge, TIMER))?;
        let events = [EpollEvent::empty(); BATCH];
        Ok(Self { epoll, timer, deadline: None, events, filled: 0, next: 0 })
    }

    /// The descriptor that becomes readable when anything is ready.
    pub(crate) fn fd(&self) -> RawFd {
        self.epoll.0.as_raw_fd()
    }

    /// Watches `socket`, until it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        Ok(self.epoll.add(socket, EpollEvent::new(flags, token))?)
    }

    /// Sees to it that there is a [`Deadline`](Event::Deadline) at `deadline`, or earlier.
    pub(crate) fn wake_at(&mut self, deadline: Instant) {
        if self.deadline.is_some_and(|earlier| earlier <= deadline) {
            return;
        }
        self.deadline = Some(deadline);
        let left = deadline.saturating_duration_since(Instant::now());
        // A timer descriptor takes 0 for `never`.
        let left = left.max(std::time::Duration::from_nanos(1)).into();
        if let Err(error) = self.timer.set(Expiration::OneShot(left), TimerSetTimeFlags::empty()) {
            log::warn!("sockets of the guest get no deadlines: {error}");
        }
    }

    /// The next thing that has happened; never waits.
    pub(crate) fn next(&mut self) -> Option<Event> {
        if self.next >= self.filled {
            self.next = 0;
            self.filled = loop {
                match self.epoll.wait(&mut self.events, EpollTimeout::ZERO) {
                    Err(nix::Error::EINTR) => {}
                    filled => break filled.unwrap_or(0),
                }
            };
        }
        let event = *self.events.get(self.next).filter(|_| self.next < self.filled)?;
        self.next += 1;
        Some(match event.data() {
            LISTENER => Event::Listener,
            TIMER => {
                // Nothing to read means that it was set again in the meantime.
                let _ = self.timer.wait();
                self.deadline = None;
                Event::Deadline
            }
            token => Event::Socket(token, Ready::of(event.events())),
        })
    }
}

impl Ready {
    fn of(flags: EpollFlags) -> Self {
        let any = |of| flags.intersects(of);
        let gone = any(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        let last = gone || any(EpollFlags::EPOLLRDHUP);
        Self {
            read: last || any(EpollFlags::EPOLLIN),
            write: gone || any(EpollFlags::EPOLLOUT),
            gone,
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
