//! The device.

use std::{
    io,
    os::fd::RawFd,
    time::{Duration, Instant},
};

use device::{Persist, RestoreError, SaveError, Versioned};
use rate::Timer;
use serde::{Deserialize, Serialize};
use virtio::{Chain, Device, Served};

use crate::{
    BalloonConfig, Statistics,
    config::{Agreed, Space},
    pages::{self, Outcome, PAGE},
};

const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const STATISTICS: u16 = 2;

/// The memory balloon.
#[derive(Debug)]
pub struct Balloon {
    config: BalloonConfig,
    space: Space,
    agreed: Agreed,
    given_back: u64,
    inquiry: Inquiry,
    failures: u64,
}

impl Balloon {
    /// An empty balloon that is to stay empty.
    ///
    /// # Errors
    /// The host has no timer left.
    pub fn new(config: BalloonConfig) -> io::Result<Self> {
        Ok(Self {
            config,
            space: Space::default(),
            agreed: Agreed::default(),
            given_back: 0,
            inquiry: Inquiry::new(config.statistics.unwrap_or_default())?,
            failures: 0,
        })
    }

    /// Asks the guest to have `bytes` of its memory in the balloon, in whole pages of 4 KiB: it gives
    /// up more, or takes some back, as fast and as far as it can. At most 16 TiB.
    pub fn set_target(&mut self, bytes: u64) {
        self.space.set_target(u32::try_from(bytes / PAGE).unwrap_or(u32::MAX));
    }

    /// How much the guest was asked to have in the balloon, bytes.
    pub fn target(&self) -> u64 {
        u64::from(self.space.target()) * PAGE
    }

    /// How much it says is in it, bytes.
    pub fn actual(&self) -> u64 {
        u64::from(self.space.actual()) * PAGE
    }

    /// How much has gone back to the host in all since the machine was made, by the balloon and by
    /// reports, bytes. The guest may have taken the same pages again.
    pub fn given_back(&self) -> u64 {
        self.given_back
    }

    /// What the guest said of its memory last, if it ever did.
    pub fn statistics(&self) -> Option<Statistics> {
        self.inquiry.latest
    }

    /// Asks the guest for new statistics. They are there a little later, or not at all.
    pub fn ask(&mut self) {
        self.inquiry.asked = true;
    }

    /// The guest reports pages that it does not use.
    fn report(&mut self, chain: &Chain<'_>) {
        // The guest expects them to hold what it says; we can only make zeroes of them.
        if self.agreed.poison && self.space.poison() != 0 {
            return;
        }
        let outcome = pages::by_place(chain);
        self.note(outcome);
    }

    fn note(&mut self, outcome: Outcome) {
        self.given_back = self.given_back.saturating_add(outcome.given);
        let Some(error) = outcome.error else { return };
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            let (cause, count) = (source(&error), self.failures);
            log::warn!("the balloon frees no memory: {error}{cause} ({count} so far)");
        }
    }
}

/// What the host said, in the words of a log line.
fn source(error: &dyn std::error::Error) -> String {
    error.source().map(|source| format!(": {source}")).unwrap_or_default()
}

impl Device for Balloon {
    const ID: u32 = 5;

    fn features(&self) -> u64 {
        self.config.features()
    }

    fn queues(&self) -> &[u16] {
        self.config.queues()
    }

    fn config(&self) -> &[u8] {
        self.space.bytes()
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.space.write(offset, data);
    }

    fn negotiated(&mut self, features: u64) {
        self.agreed = Agreed::new(features);
    }

    fn reset(&mut self) {
        // The guest has all of its pages again; what is wanted of it stays wanted.
        self.space.set_actual(0);
        self.space.set_poison(0);
        self.agreed = Agreed::default();
        self.inquiry.held = false;
    }

    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served {
        match queue {
            INFLATE => {
                let outcome = pages::by_number(chain);
                self.note(outcome);
            }
            // The guest writes to a page, and has one.
            DEFLATE => {}
            STATISTICS if self.agreed.statistics => {
                return self.inquiry.serve(chain, Instant::now());
            }
            _ => self.report(chain),
        }
        Served::Used(0)
    }

    fn sources(&self) -> Vec<RawFd> {
        self.config.statistics.map(|_| self.inquiry.timer.source()).into_iter().collect()
    }
}

/// The questions for statistics: a buffer that comes with answers, and goes back to ask for more.
#[derive(Debug)]
struct Inquiry {
    /// How long a buffer is kept; 0 is until somebody asks.
    interval: Duration,
    timer: Timer,
    latest: Option<Statistics>,
    /// Whether the buffer at hand has been read.
    held: bool,
    asked: bool,
}

impl Inquiry {
    fn new(interval: Duration) -> io::Result<Self> {
        Ok(Self { interval, timer: Timer::new()?, latest: None, held: false, asked: false })
    }

    fn serve(&mut self, chain: &mut Chain<'_>, now: Instant) -> Served {
        if !self.held {
            self.latest = Some(Statistics::read(&mut chain.reader, now));
            self.held = true;
        }
        let age = self.latest.map_or(Duration::ZERO, |latest| now.duration_since(latest.at));
        let due = !self.interval.is_zero() && age >= self.interval;
        if due || self.asked {
            (self.held, self.asked) = (false, false);
            return Served::Used(0);
        }
        if !self.interval.is_zero()
            && let Err(error) = self.timer.arm(self.interval.saturating_sub(age), now)
        {
            log::debug!("statistics of the balloon come late: {error}");
        }
        Served::Stall
    }
}

/// The saved form of [`Balloon`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonState {
    /// How many pages should be in the balloon.
    pub(crate) target: u32,
    /// How many are, by the guest.
    pub(crate) actual: u32,
    /// What the guest fills free pages with.
    pub(crate) poison: u32,
}

impl Versioned for BalloonState {
    const KIND: &'static str = "virtio.balloon";
    const VERSION: u32 = 1;
}

impl Persist for Balloon {
    type State = BalloonState;

    fn save(&mut self) -> Result<BalloonState, SaveError> {
        Ok(BalloonState {
            target: self.space.target(),
            actual: self.space.actual(),
            poison: self.space.poison(),
        })
    }

    fn restore(&mut self, state: BalloonState) -> Result<(), RestoreError> {
        let BalloonState { target, actual, poison } = state;
        self.space.set_target(target);
        self.space.set_actual(actual);
        self.space.set_poison(poison);
        // The buffer at hand is read again.
        self.inquiry.held = false;
        Ok(())
    }
}
