//! When to look for a back end that is gone.

use std::{
    io,
    os::fd::RawFd,
    time::{Duration, Instant},
};

use rate::Timer;

/// The first wait, which doubles each time.
const FIRST: Duration = Duration::from_millis(10);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(5);

/// A timer for the next attempt, later each time until a back end has stayed for a while.
#[derive(Debug)]
pub(crate) struct Retry {
    timer: Timer,
    wait: Duration,
    since: Instant,
    /// How often a back end was lost, for the log.
    pub(crate) losses: u64,
    /// How often one could not be used that was there.
    pub(crate) failures: u64,
}

impl Retry {
    pub(crate) fn new() -> io::Result<Self> {
        let timer = Timer::new()?;
        Ok(Self { timer, wait: FIRST, since: Instant::now(), losses: 0, failures: 0 })
    }

    /// A back end is there.
    pub(crate) fn found(&mut self) {
        self.since = Instant::now();
    }

    /// The back end is gone: sets the timer for an attempt, not sooner than `least` from now. One that
    /// never stays for long is looked for as seldom as one that is absent.
    pub(crate) fn lost(&mut self, least: Duration) -> io::Result<()> {
        self.losses = self.losses.saturating_add(1);
        if self.since.elapsed() > self.wait {
            self.wait = FIRST;
        }
        self.wait = self.wait.max(least);
        self.again()
    }

    /// Sets the timer for another attempt.
    pub(crate) fn again(&mut self) -> io::Result<()> {
        let wait = self.wait;
        self.wait = wait.saturating_mul(2).min(LONGEST);
        self.timer.arm(wait, Instant::now())
    }

    /// To be watched edge-triggered.
    pub(crate) fn source(&self) -> RawFd {
        self.timer.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_back_end_that_never_stays_is_looked_for_less_and_less_often() {
        let mut retry = Retry::new().unwrap();
        let waits = (0..12).map(|_| {
            let wait = retry.wait;
            retry.lost(Duration::ZERO).unwrap();
            retry.found();
            wait.as_millis()
        });
        let waits: Vec<_> = waits.collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000, 5000]);
    }

    #[test]
    fn one_that_was_slow_is_looked_for_later() {
        let mut retry = Retry::new().unwrap();
        retry.lost(Duration::from_secs(2)).unwrap();
        assert_eq!(retry.wait, Duration::from_secs(4));
    }

    #[test]
    fn one_that_stayed_longer_than_the_last_wait_is_looked_for_at_once() {
        let mut retry = Retry::new().unwrap();
        (0..5).for_each(|_| retry.again().unwrap());
        retry.since = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        retry.lost(Duration::ZERO).unwrap();
        assert_eq!((retry.wait, retry.losses), (2 * FIRST, 1));
    }
}
