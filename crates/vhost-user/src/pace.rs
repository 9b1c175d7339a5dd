//! How often a configuration space is read again: a back end may say without end that it has changed.

use std::{
    io,
    os::fd::RawFd,
    time::{Duration, Instant},
};

use rate::Timer;

/// At most once in so long.
const PACE: Duration = Duration::from_millis(100);

/// When the next reading may be.
#[derive(Debug)]
pub(crate) struct Pace {
    timer: Timer,
    last: Option<Instant>,
}

impl Pace {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { timer: Timer::new()?, last: None })
    }

    /// Whether it is time `now`. If not, the [source](Self::source) tells when it is.
    pub(crate) fn is_time(&mut self, now: Instant) -> bool {
        let passed = self.last.map(|last| now.saturating_duration_since(last));
        if let Some(passed) = passed.filter(|passed| *passed < PACE)
            && self.timer.arm(PACE - passed, now).is_ok()
        {
            return false;
        }
        self.last = Some(now);
        true
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
    fn what_comes_once_is_done_at_once_and_what_comes_often_now_and_then() {
        let mut pace = Pace::new().unwrap();
        let begin = Instant::now();
        let times = (0..1000).filter(|step| pace.is_time(begin + Duration::from_millis(*step)));
        assert_eq!(times.collect::<Vec<_>>(), [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }
}
