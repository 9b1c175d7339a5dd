//! A descriptor that becomes readable when it is time.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

/// The longest that a timer is set to: what the kernel's clock can count in nanoseconds is 292 years,
/// from the start of the host.
const LONGEST: Duration = Duration::from_secs(1 << 32);

/// A timer of the host's monotonic clock, to be watched edge-triggered: it does not have to be read
/// before it is armed again.
#[derive(Debug)]
pub struct Timer {
    fd: TimerFd,
    /// When it goes off, or went off.
    deadline: Option<Instant>,
}

impl Timer {
    /// A timer that is not armed.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { fd: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?, deadline: None })
    }

    /// Goes off `after` so long, counted from `now`, which is the time; or when it is already armed
    /// for, if that is earlier.
    ///
    /// # Errors
    /// The host refuses.
    pub fn arm(&mut self, after: Duration, now: Instant) -> io::Result<()> {
        // 0 would disarm it.
        let after = after.clamp(Duration::from_nanos(1), LONGEST);
        let deadline = now.checked_add(after);
        let earlier = |set: Instant| set > now && deadline.is_none_or(|new| set <= new);
        if self.deadline.is_some_and(earlier) {
            return Ok(());
        }
        let expiration = Expiration::OneShot(TimeSpec::from_duration(after));
        self.fd.set(expiration, TimerSetTimeFlags::empty())?;
        self.deadline = deadline;
        Ok(())
    }

    /// The descriptor as a number, for `Device::sources`. It is open as long as the timer lives.
    pub fn source(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says is left until the timer goes off.
    fn left(timer: &Timer) -> Option<Duration> {
        match timer.fd.get().unwrap()? {
            Expiration::OneShot(left) => Some(left.into()),
            other => panic!("{other:?}"),
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_timer_goes_off_once_and_can_be_armed_again_unread() {
        let mut timer = Timer::new().unwrap();
        for _ in 0..2 {
            let now = Instant::now();
            timer.arm(Duration::ZERO, now).unwrap();
            while left(&timer).is_some() {
                std::thread::yield_now();
            }
        }
        timer.fd.wait().unwrap(); // does not block: it would fail if it had not gone off
        assert!(timer.fd.wait().is_err());
    }

    #[test]
    fn the_earliest_time_counts() {
        let mut timer = Timer::new().unwrap();
        let now = Instant::now();
        timer.arm(2 * HOUR, now).unwrap();
        timer.arm(HOUR, now).unwrap();
        timer.arm(3 * HOUR, now).unwrap();
        assert!(left(&timer).unwrap() <= HOUR);
    }

    #[test]
    fn a_time_that_has_passed_does_not_count() {
        let mut timer = Timer::new().unwrap();
        let now = Instant::now();
        timer.arm(HOUR, now).unwrap();
        timer.arm(3 * HOUR, now + 2 * HOUR).unwrap();
        assert!(left(&timer).unwrap() > 2 * HOUR);
    }

    #[test]
    fn the_longest_time_is_not_refused() {
        let mut timer = Timer::new().unwrap();
        timer.arm(Duration::MAX, Instant::now()).unwrap();
        assert!(left(&timer).unwrap() > LONGEST - HOUR);
    }
}
