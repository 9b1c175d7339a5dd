//! A limit that knows the time and wakes up.

use std::{io, os::fd::RawFd, time::Instant};

use crate::{Limit, Rates, Timer};

/// A [`Limit`] by the host's monotonic clock, with a [`Timer`] that goes off when what had to wait is
/// worth another try.
#[derive(Debug)]
pub struct Throttle {
    limit: Limit,
    timer: Timer,
    failures: u64,
}

impl Throttle {
    /// A throttle with full buckets. Rates can be [set](Self::set) later.
    ///
    /// # Errors
    /// The host has no descriptor left for the timer.
    pub fn new(rates: Rates) -> io::Result<Self> {
        Ok(Self { limit: Limit::new(rates, Instant::now()), timer: Timer::new()?, failures: 0 })
    }

    /// Whether `ops` operations with `bytes` bytes in them may go on now, which takes them from the
    /// limit. If not, the [source](Self::source) becomes readable when it is worth asking again. A
    /// timer that the host refuses to arm limits nothing: late is better than never.
    #[must_use]
    pub fn take(&mut self, ops: u64, bytes: u64) -> bool {
        if self.limit.is_none() {
            return true; // without looking at the clock
        }
        let now = Instant::now();
        let Err(wait) = self.limit.take(ops, bytes, now) else { return true };
        match self.timer.arm(wait, now) {
            Ok(()) => false,
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures.is_power_of_two() {
                    let count = self.failures;
                    log::warn!("a rate is not kept: no timer: {error} ({count} so far)");
                }
                true
            }
        }
    }

    /// Whether there is a limit at all.
    pub fn is_limited(&self) -> bool {
        !self.limit.is_none()
    }

    /// Puts back what was taken for a request that was then not done, or did less.
    pub fn give_back(&mut self, ops: u64, bytes: u64) {
        self.limit.give_back(ops, bytes);
    }

    /// Changes the rates: see [`Limit::set`]. What waits is to be tried again afterwards.
    pub fn set(&mut self, rates: Rates) {
        self.limit.set(rates, Instant::now());
    }

    /// The rates as they are.
    pub fn rates(&self) -> Rates {
        self.limit.rates()
    }

    /// The timer's descriptor, for `Device::sources`; to be watched edge-triggered, and never read. It
    /// is open as long as the throttle lives.
    pub fn source(&self) -> RawFd {
        self.timer.source()
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, os::fd::AsFd, time::Duration};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::Rate;

    fn wait(throttle: &Throttle, timeout: PollTimeout) -> bool {
        let fd = throttle.timer.as_fd();
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).unwrap() == 1
    }

    fn ops(per_second: u64) -> Rates {
        let rate = NonZeroU64::new(per_second).map(|rate| Rate::new(rate).size(1));
        Rates { ops: rate, bytes: None }
    }

    #[test]
    fn what_had_to_wait_goes_on_when_the_source_is_ready() {
        let mut throttle = Throttle::new(ops(200)).unwrap();
        let start = Instant::now();
        for _ in 0..4 {
            while !throttle.take(1, 0) {
                assert!(wait(&throttle, PollTimeout::NONE));
            }
        }
        // The first was free.
        assert!(start.elapsed() >= Duration::from_millis(15));
    }

    #[test]
    fn nothing_wakes_up_without_a_request_that_waits() {
        let mut throttle = Throttle::new(ops(1)).unwrap();
        assert!(throttle.take(1, 0));
        assert!(!wait(&throttle, PollTimeout::ZERO));
    }

    #[test]
    fn rates_change_while_it_runs() {
        let mut throttle = Throttle::new(Rates::default()).unwrap();
        assert!((0..1000).all(|_| throttle.take(1, 0)));
        throttle.set(ops(1));
        assert_eq!(throttle.rates(), ops(1));
        assert!(throttle.take(1, 0));
        assert!(!throttle.take(1, 0));
        throttle.give_back(1, 0);
        assert!(throttle.take(1, 0));
    }
}
