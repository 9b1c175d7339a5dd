//! How long a back end may keep this end waiting.

use std::time::{Duration, Instant};

/// So long at once, for all queues and messages together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// One second in so many is given back as time passes.
const SHARE: u32 = 5;
/// What an answer gives back: a back end that answers at once is never given up for being asked often.
const ANSWER: Duration = Duration::from_millis(1);
/// Who comes back is taken with so much, which is enough to start every queue of a back end that works.
const ENOUGH: Duration = Duration::from_secs(1);

/// What is left of it. It goes from one back end to the next, or one that is slow could have it anew by
/// hanging up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    left: Duration,
    at: Instant,
}

impl Patience {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: PATIENCE, at: now }
    }

    /// How long may be waited from `now` on.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        let given = now.saturating_duration_since(self.at) / SHARE;
        self.left.saturating_add(given).min(PATIENCE)
    }

    /// It was waited, from `since` until `now`.
    pub(crate) fn spend(&mut self, since: Instant, now: Instant) {
        self.left = self.left(since).saturating_sub(now.saturating_duration_since(since));
        self.at = now;
    }

    /// What was asked is answered.
    pub(crate) fn answered(&mut self) {
        self.left = self.left.saturating_add(ANSWER).min(PATIENCE);
    }

    /// How long after `now` the next back end can be taken.
    pub(crate) fn recovery(&self, now: Instant) -> Duration {
        ENOUGH.saturating_sub(self.left(now)) * SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn waits_add_up() {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        let two = now + 2 * SECOND;
        patience.spend(now, two);
        patience.spend(two, two + SECOND / 2);
        assert_eq!(patience.left(two + SECOND / 2), SECOND / 2);
        patience.spend(two + SECOND / 2, two + 2 * SECOND);
        assert_eq!(patience.left(two + 2 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_fifth_of_the_time_without_a_wait_is_given_back_and_no_more_than_there_was() {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        patience.spend(now, now + 3 * SECOND);
        let spent = now + 3 * SECOND;
        assert_eq!(patience.left(spent + 5 * SECOND), SECOND);
        assert_eq!(patience.recovery(spent), 5 * SECOND);
        assert_eq!(patience.recovery(spent + 4 * SECOND), SECOND);
        assert_eq!(patience.recovery(spent + 9 * SECOND), Duration::ZERO);
        assert_eq!(patience.left(spent + 3600 * SECOND), PATIENCE);
    }

    #[test]
    fn answers_that_come_at_once_cost_nothing() {
        let mut now = Instant::now();
        let mut patience = Patience::new(now);
        for _ in 0..100_000 {
            patience.spend(now, now + MILLISECOND);
            patience.answered();
            now += MILLISECOND;
        }
        assert_eq!(patience.left(now), PATIENCE);
    }

    #[test]
    fn answers_that_come_late_add_up() {
        let mut now = Instant::now();
        let mut patience = Patience::new(now);
        let mut answers = 0;
        while patience.left(now) >= 10 * MILLISECOND && answers < 1000 {
            patience.spend(now, now + 10 * MILLISECOND);
            patience.answered();
            now += 10 * MILLISECOND;
            answers += 1;
        }
        assert!(answers < 400, "{answers}");
    }
}
