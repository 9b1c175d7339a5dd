//! What reaches a running machine from outside: signals, the escape key, time.

use std::{
    fmt, io,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{SigSet, Signal, raise},
    signalfd::{SfdFlags, SignalFd},
};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_NONBLOCK, EventFd},
};

/// Called when the process is about to be suspended (`false`) and when it goes on (`true`): the
/// terminal belongs to somebody else in between.
pub type Suspension = Box<dyn Fn(bool) + Send>;

/// The signals and events that a run obeys. Make it before any thread: it blocks the signals in this
/// thread and in those that this thread starts; they stay blocked when it is dropped.
pub struct Control {
    signals: SignalFd,
    quit: EventFd,
    ctrl_alt_del: EventFd,
    grace: Duration,
    suspension: Suspension,
    running: Box<dyn Fn() + Send>,
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
    /// Press Ctrl, Alt and Delete.
    CtrlAltDel,
    /// The terminal may have another size.
    Resized,
    /// The deadline is over.
    Late,
}

const OBEYED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
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
        let (quit, ctrl_alt_del) = (EventFd::new(EFD_NONBLOCK)?, EventFd::new(EFD_NONBLOCK)?);
        let running = Box::new(|| ());
        Ok(Self { signals, quit, ctrl_alt_del, grace, suspension, running })
    }

    /// Calls `hook` whenever a machine has been built and its guest has started to run.
    #[must_use]
    pub fn when_running(mut self, hook: impl Fn() + Send + 'static) -> Self {
        self.running = Box::new(hook);
        self
    }

    /// The guest runs.
    pub(super) fn running(&self) {
        (self.running)();
    }

    /// Signal this to end the run at once.
    ///
    /// # Errors
    /// The host gives no further descriptor.
    pub fn quit_event(&self) -> io::Result<EventFd> {
        self.quit.try_clone()
    }

    /// Signal this to press Ctrl, Alt and Delete in the guest.
    ///
    /// # Errors
    /// The host gives no further descriptor.
    pub fn ctrl_alt_del_event(&self) -> io::Result<EventFd> {
        self.ctrl_alt_del.try_clone()
    }

    /// Starts to wait for `stopped` beside the signals.
    pub(super) fn watch(&mut self, stopped: &EventFd) -> Result<Watch<'_>, ControlError> {
        let epoll = Epoll::new()?;
        let events = [stopped, &self.quit, &self.ctrl_alt_del].map(EventFd::as_raw_fd);
        let fds = events.into_iter().chain([self.signals.as_raw_fd()]);
        for (token, fd) in (STOPPED..).zip(fds) {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, token))?;
        }
        Ok(Watch { control: self, epoll })
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
                // It may have changed while we did not look.
                Some(Wake::Resized)
            }
            Signal::SIGWINCH => Some(Wake::Resized),
            Signal::SIGQUIT => Some(Wake::Quit(Some(Signal::SIGQUIT))),
            signal => Some(Wake::Terminate(signal)),
        }
    }
}

/// Tokens of the descriptors that are waited for; the others follow.
const STOPPED: u64 = 0;
const QUIT: u64 = 1;
const CTRL_ALT_DEL: u64 = 2;

/// Waiting for one machine.
pub(super) struct Watch<'a> {
    control: &'a mut Control,
    epoll: Epoll,
}

impl Watch<'_> {
    /// How long a guest may take to shut down.
    pub(super) fn grace(&self) -> Duration {
        self.control.grace
    }

    /// Waits for the next thing to react to, the machine's own end first.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Wake {
        loop {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let ready = self.ready(left);
            let wake = match ready.iter().min() {
                Some(&STOPPED) => Some(Wake::Stopped),
                Some(&QUIT) => self.control.quit.read().ok().map(|_| Wake::Quit(None)),
                Some(&CTRL_ALT_DEL) => {
                    self.control.ctrl_alt_del.read().ok().map(|_| Wake::CtrlAltDel)
                }
                Some(_) => self.control.next_signal(),
                None => (left == Some(Duration::ZERO)).then_some(Wake::Late),
            };
            if let Some(wake) = wake {
                return wake;
            }
        }
    }

    fn ready(&self, left: Option<Duration>) -> Vec<u64> {
        // Rounded up, so that a deadline is never polled for in a busy loop.
        let millis = |left: Duration| left.as_micros().div_ceil(1000);
        let timeout = left.map_or(-1, |left| i32::try_from(millis(left)).unwrap_or(i32::MAX));
        let mut events = [EpollEvent::default(); 4];
        // Interrupted by a signal that nothing here obeys: look again.
        let count = self.epoll.wait(timeout, &mut events).unwrap_or(0);
        events.iter().take(count).map(EpollEvent::data).collect()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("grace", &self.grace).finish_non_exhaustive()
    }
}
