//! Operations and bytes together.

use std::time::{Duration, Instant};

use crate::{Bucket, Rate};

/// The rates of a [`Limit`]; what has none is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Operations, or requests, or packets.
    pub ops: Option<Rate>,
    /// The bytes in them.
    pub bytes: Option<Rate>,
}

/// A bucket of operations and one of bytes, full at first.
#[derive(Clone, Debug)]
pub struct Limit {
    ops: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Limit {
    /// A limit with full buckets.
    pub fn new(rates: Rates, now: Instant) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        Self { ops: bucket(rates.ops), bytes: bucket(rates.bytes) }
    }

    /// The rates as they are.
    pub fn rates(&self) -> Rates {
        let rate = |bucket: &Option<Bucket>| bucket.as_ref().map(Bucket::rate);
        Rates { ops: rate(&self.ops), bytes: rate(&self.bytes) }
    }

    /// Whether there is no limit at all.
    pub fn is_none(&self) -> bool {
        self.ops.is_none() && self.bytes.is_none()
    }

    /// Takes `ops` operations with `bytes` bytes in them, or nothing.
    ///
    /// # Errors
    /// There is too little of one of them: it is worth trying again after so long.
    pub fn take(&mut self, ops: u64, bytes: u64, now: Instant) -> Result<(), Duration> {
        let wants = [(&mut self.ops, ops), (&mut self.bytes, bytes)];
        let mut wait = None;
        for (bucket, count) in wants {
            let missing = bucket.as_mut().and_then(|bucket| bucket.check(count, now).err());
            wait = wait.max(missing);
        }
        if let Some(wait) = wait {
            return Err(wait);
        }
        for (bucket, count) in [(&mut self.ops, ops), (&mut self.bytes, bytes)] {
            if let Some(bucket) = bucket {
                bucket.remove(count);
            }
        }
        Ok(())
    }

    /// Puts back what was taken for a request that was then not done, or did less.
    pub fn give_back(&mut self, ops: u64, bytes: u64) {
        for (bucket, count) in [(&mut self.ops, ops), (&mut self.bytes, bytes)] {
            if let Some(bucket) = bucket {
                bucket.give_back(count);
            }
        }
    }

    /// Changes the rates. Buckets that remain keep what they earned: see [`Bucket::set`]. A bucket
    /// that is new is full.
    pub fn set(&mut self, rates: Rates, now: Instant) {
        for (bucket, rate) in [(&mut self.ops, rates.ops), (&mut self.bytes, rates.bytes)] {
            match (bucket, rate) {
                (Some(bucket), Some(rate)) => bucket.set(rate, now),
                (bucket, rate) => *bucket = rate.map(|rate| Bucket::new(rate, now)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rate(size: u64) -> Option<Rate> {
        NonZeroU64::new(1000).map(|per_second| Rate::new(per_second).size(size))
    }

    #[test]
    fn without_rates_everything_goes() {
        let now = Instant::now();
        let mut limit = Limit::new(Rates::default(), now);
        assert!(limit.is_none());
        for _ in 0..1000 {
            assert_eq!(limit.take(u64::MAX, u64::MAX, now), Ok(()));
        }
    }

    #[test]
    fn a_request_waits_for_the_slower_of_the_two() {
        let now = Instant::now();
        let mut limit = Limit::new(Rates { ops: rate(1), bytes: rate(100) }, now);
        limit.take(1, 100, now).unwrap();
        assert_eq!(limit.take(1, 50, now), Err(50 * MS));
        assert_eq!(limit.take(1, 0, now), Err(MS));
        assert_eq!(limit.take(1, 50, now + 50 * MS), Ok(()));
    }

    #[test]
    fn a_request_that_waits_for_one_takes_nothing_of_the_other() {
        let now = Instant::now();
        let mut limit = Limit::new(Rates { ops: rate(10), bytes: rate(100) }, now);
        limit.take(0, 100, now).unwrap();
        for _ in 0..100 {
            assert!(limit.take(1, 1, now).is_err());
        }
        assert_eq!(limit.take(10, 0, now), Ok(()));
    }

    #[test]
    fn what_is_given_back_goes_to_both() {
        let now = Instant::now();
        let mut limit = Limit::new(Rates { ops: rate(1), bytes: rate(100) }, now);
        limit.take(1, 100, now).unwrap();
        limit.give_back(1, 60);
        assert_eq!(limit.take(1, 61, now), Err(MS));
        assert_eq!(limit.take(1, 60, now), Ok(()));
    }

    #[test]
    fn rates_come_and_go_while_it_runs() {
        let now = Instant::now();
        let mut limit = Limit::new(Rates { ops: rate(1), bytes: None }, now);
        limit.take(1, 1000, now).unwrap();
        limit.set(Rates { ops: rate(2), bytes: rate(100) }, now);
        assert_eq!(limit.take(1, 0, now), Err(MS)); // kept
        assert_eq!(limit.take(0, 100, now), Ok(())); // new, so full
        limit.set(Rates::default(), now);
        assert!(limit.is_none());
        assert_eq!(limit.rates(), Rates::default());
        assert_eq!(limit.take(1, 100, now), Ok(()));
    }
}
