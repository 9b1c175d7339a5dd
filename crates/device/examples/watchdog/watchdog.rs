//! A watchdog: a device that interrupts a guest which has stopped to feed it.

// anchor: registers
use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use device::{
    AccessError, Action, Attach, AttachError, EventOps, EventSet, Events, Irq, IrqLine,
    MutBusDevice, MutEventSubscriber, Persist, Range, RestoreError, SaveError, Versioned, Wiring,
};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};

/// Two bytes. A write feeds the watchdog: it barks after so many milliseconds, or never if they are
/// 0. A read gives what was written last.
const TIMEOUT: u64 = 0;
/// One byte. Bit 0 is set when the watchdog has barked; writing a one to it clears it.
const STATUS: u64 = 2;
/// Bit 0 of [`STATUS`].
const BARKED: u8 = 1;
/// How many ports the registers take.
const PORTS: u16 = 4;
// end: registers

// anchor: state
/// What says the time.
type Clock = Box<dyn Fn() -> Instant + Send>;

/// The running device.
pub(crate) struct Chip {
    timeout: u16,
    deadline: Option<Instant>,
    barked: bool,
    clock: Clock,
    /// Wakes the I/O thread at the deadline.
    timer: TimerFd,
    line: IrqLine,
}

impl Chip {
    pub(crate) fn new(clock: Clock, line: IrqLine) -> io::Result<Self> {
        // It must not block: the guest may feed the dog after the I/O thread has been woken.
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self { timeout: 0, deadline: None, barked: false, clock, timer, line })
    }

    /// Lets the watchdog bark after `time`, or never.
    fn set(&mut self, time: Option<Duration>) {
        self.deadline = time.map(|time| (self.clock)() + time);
        let result = match time {
            // A timer descriptor takes 0 for `never`.
            Some(time) => {
                let time = time.max(Duration::from_nanos(1)).into();
                self.timer.set(Expiration::OneShot(time), TimerSetTimeFlags::empty())
            }
            None => self.timer.unset(),
        };
        if let Err(error) = result {
            log::warn!("the watchdog sleeps: its timer cannot be set: {error}");
        }
    }

    fn bark(&mut self) {
        self.deadline = None;
        self.barked = true;
        if let Err(error) = self.line.raise() {
            log::warn!("the watchdog barks unheard: {error}");
        }
    }
}
// end: state

// anchor: access
impl MutBusDevice for Chip {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        match (offset, data) {
            (TIMEOUT, [low, high]) => [*low, *high] = self.timeout.to_le_bytes(),
            (STATUS, [status]) => *status = if self.barked { BARKED } else { 0 },
            (TIMEOUT | STATUS, _) => return Err(AccessError::Width),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        match (offset, data) {
            (TIMEOUT, &[low, high]) => {
                self.timeout = u16::from_le_bytes([low, high]);
                let time = Duration::from_millis(self.timeout.into());
                self.set((!time.is_zero()).then_some(time));
            }
            (STATUS, &[value]) => self.barked &= value & BARKED == 0,
            (TIMEOUT | STATUS, _) => return Err(AccessError::Width),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(Action::Continue)
    }
}
// end: access

// anchor: events
impl MutEventSubscriber for Chip {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let fd = self.timer.as_fd().as_raw_fd();
        if let Err(error) = ops.add(Events::new_raw(fd, EventSet::IN)) {
            log::warn!("the watchdog sleeps: its timer cannot be watched: {error}");
        }
    }

    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        // Empties the descriptor. That it is empty already is no error: see `Chip::new`.
        let _ = self.timer.wait();
        if self.deadline.is_some_and(|deadline| deadline <= (self.clock)()) {
            self.bark();
        }
    }
}
// end: events

// anchor: saved
/// The watchdog as a snapshot holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedWatchdog {
    /// The register.
    pub(crate) timeout_ms: u16,
    /// How long until it barks; not at all if `None`.
    pub(crate) left_ms: Option<u16>,
    /// The status bit.
    pub(crate) barked: bool,
}

impl Versioned for SavedWatchdog {
    const KIND: &'static str = "example.watchdog";
    const VERSION: u32 = 1;
}

impl Persist for Chip {
    type State = SavedWatchdog;

    fn save(&mut self) -> Result<SavedWatchdog, SaveError> {
        let now = (self.clock)();
        let left = |deadline: Instant| {
            let left = deadline.saturating_duration_since(now);
            u16::try_from(left.as_millis()).unwrap_or(u16::MAX)
        };
        let left_ms = self.deadline.map(left);
        Ok(SavedWatchdog { timeout_ms: self.timeout, left_ms, barked: self.barked })
    }

    fn restore(&mut self, state: SavedWatchdog) -> Result<(), RestoreError> {
        let SavedWatchdog { timeout_ms, left_ms, barked } = state;
        if let Some(left) = left_ms.filter(|left| *left > timeout_ms) {
            let why = format!("{left} ms are left of {timeout_ms}; there cannot be more");
            return Err(RestoreError::Invalid { kind: SavedWatchdog::KIND, why });
        }
        self.timeout = timeout_ms;
        self.barked = barked;
        self.set(left_ms.map(|left| Duration::from_millis(left.into())));
        Ok(())
    }
}
// end: saved

// anchor: attach
/// A watchdog: four ports and an interrupt line.
pub struct Watchdog {
    port: u16,
    irq: u32,
    clock: Clock,
}

impl Watchdog {
    /// A watchdog with its ports from `port` on, and interrupt line `irq`.
    pub fn new(port: u16, irq: u32) -> Self {
        Self { port, irq, clock: Box::new(Instant::now) }
    }

    /// Takes the time from `clock` instead of the host's.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> Instant + Send + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("port", &self.port)
            .field("irq", &self.irq)
            .finish_non_exhaustive()
    }
}

impl Attach for Watchdog {
    type Handle = ();

    fn attach(self, wiring: &mut dyn Wiring) -> Result<(), AttachError> {
        let (_, line) = wiring.irq(Irq::Fixed(self.irq))?;
        let chip = Arc::new(Mutex::new(Chip::new(self.clock, line)?));
        wiring.pio(Range::new(self.port, PORTS)?, chip.clone());
        wiring.poll(chip.clone());
        wiring.persist(chip);
        Ok(())
    }
}
// end: attach
