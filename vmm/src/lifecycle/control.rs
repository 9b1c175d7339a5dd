//! What reaches a running machine from outside: signals, the escape key, time.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, raise},
        signalfd::{SfdFlags, SignalFd},
    },
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Called when the process is about to be suspended (`false`) and when it goes on (`true`): the
/// terminal belongs to somebody else in between.
pub type Suspension = Box<dyn Fn(bool) + Send>;

/// The signals and events that a run obeys. Make it before any thread: it blocks the signals in this
/// thread and in those that this thread starts.
pub struct Control {
    signals: SignalFd,
    quit: EventFd,
    grace: Duration,
    suspension: Suspension,
}

/// Why signals cannot be received.
#[derive(Debug, thiserror::Error)]
#[error("the host gives no descriptor for signals and events")]
pub struct ControlError(#[from] io::Error);

/// What woke the watching thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The machine has stopped.
    Stopped,
    /// A signal that means: end, in order.
    Terminate(Signal),
    /// A signal or key that means: end, now.
    Quit(Option<Signal>),
    /// The deadline is over.
    Late,
}

const OBEYED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

impl Control {
    /// Receives the signals. `grace` is how long a guest may take to shut down.
    ///
    /// # Errors
    /// The host gives no descriptor for them.
    pub fn new(grace: Duration, suspension: Suspension) -> Result<Self, ControlError> {
        let mut set = SigSet::empty();
        OBEYED.into_iter().for_each(|signal| set.add(signal));
        set.thread_block().map_err(io::Error::from)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(io::Error::from)?;
        Ok(Self { signals, quit: EventFd::new(EFD_NONBLOCK)?, grace, suspension })
    }

    /// Signal this to end the run at once.
    ///
    /// # Errors
    /// The host gives no further descriptor.
    pub fn quit_event(&self) -> io::Result<EventFd> {
        self.quit.try_clone()
    }

    /// How long a guest may take to shut down.
    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// Waits for the next thing to react to.
    pub(super) fn wait(&mut self, stopped: &EventFd, deadline: Option<Instant>) -> Wake {
        loop {
            let timeout = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if timeout == Some(Duration::ZERO) {
                return Wake::Late;
            }
            if !self.poll(stopped, timeout) {
                continue;
            }
            if readable(stopped.as_fd()) {
                return Wake::Stopped;
            }
            if self.quit.read().is_ok() {
                return Wake::Quit(None);
            }
            if let Some(wake) = self.next_signal() {
                return wake;
            }
        }
    }

    fn poll(&self, stopped: &EventFd, timeout: Option<Duration>) -> bool {
        let fds = [stopped.as_fd(), self.quit.as_fd(), self.signals.as_fd()];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // Rounded up, so that a deadline is never polled for in a busy loop.
        let timeout = timeout.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.saturating_add(Duration::from_millis(1)))
                .unwrap_or(PollTimeout::MAX)
        });
        matches!(poll(&mut fds, timeout), Ok(1..) | Err(Errno::EINTR))
    }

    fn next_signal(&mut self) -> Option<Wake> {
        let signal = self.signals.read_signal().ok().flatten()?;
        let signal = i32::try_from(signal.ssi_signo).ok()?;
        match Signal::try_from(signal).ok()? {
            Signal::SIGTSTP => {
                (self.suspension)(false);
                // As the signal would have done; SIGCONT follows when somebody resumes us.
                if let Err(error) = raise(Signal::SIGSTOP) {
                    log::warn!("the process cannot be suspended: {error}");
                }
                None
            }
            Signal::SIGCONT => {
                (self.suspension)(true);
                None
            }
            Signal::SIGQUIT => Some(Wake::Quit(Some(Signal::SIGQUIT))),
            signal => Some(Wake::Terminate(signal)),
        }
    }
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    matches!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("grace", &self.grace).finish_non_exhaustive()
    }
}
