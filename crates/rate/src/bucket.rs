//! One bucket of tokens.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

/// Tokens are counted in billionths: what one nanosecond earns is then whole.
const UNIT: i128 = 1_000_000_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens earned in a second.
    pub per_second: NonZeroU64,
    /// The most tokens that are kept, so what can be taken at once after a pause. With 0, requests
    /// are evenly spaced.
    pub size: u64,
    /// Tokens that can be taken beyond the size, once: they are not earned again.
    pub burst: u64,
}

impl Rate {
    /// So many tokens a second, of which those of one second are kept; no burst.
    pub fn new(per_second: NonZeroU64) -> Self {
        Self { per_second, size: per_second.get(), burst: 0 }
    }

    /// Keeps at most `size` tokens.
    #[must_use]
    pub fn size(self, size: u64) -> Self {
        Self { size, ..self }
    }

    /// Lets `burst` more tokens be taken, once.
    #[must_use]
    pub fn burst(self, burst: u64) -> Self {
        Self { burst, ..self }
    }
}

/// A bucket of tokens, full at first.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    /// In [`UNIT`]s, at most the size; less than 0 is debt. Two products of a `u64` and a billion
    /// are far from the ends of an `i128`.
    level: i128,
    /// What is left of the burst, in [`UNIT`]s.
    burst: i128,
    /// When `level` was right.
    updated: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: units(rate.size), burst: units(rate.burst), updated: now }
    }

    /// The rate that the bucket was made with, or [set](Self::set) to.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes `count` tokens; more than the bucket can ever hold if it is full, which leaves a debt.
    ///
    /// # Errors
    /// There are too few: it is worth trying again after so long.
    pub fn take(&mut self, count: u64, now: Instant) -> Result<(), Duration> {
        self.check(count, now)?;
        self.remove(count);
        Ok(())
    }

    /// Puts back `count` tokens, of a request that was then not done or did less: at most as many
    /// as were taken. What the bucket cannot hold makes up for burst that was used.
    pub fn give_back(&mut self, count: u64) {
        let (level, size) = (self.level.saturating_add(units(count)), units(self.rate.size));
        self.level = level.min(size);
        let rest = level.saturating_sub(size).max(0);
        self.burst = self.burst.saturating_add(rest).min(units(self.rate.burst));
    }

    /// Changes the rate. What was earned is kept, as far as the new size allows; a debt remains. The
    /// burst starts anew if it is another number than before.
    pub fn set(&mut self, rate: Rate, now: Instant) {
        self.refill(now);
        if rate.burst != self.rate.burst {
            self.burst = units(rate.burst);
        }
        self.rate = rate;
        self.level = self.level.min(units(rate.size));
    }

    /// Whether `count` tokens can be taken now.
    pub(crate) fn check(&mut self, count: u64, now: Instant) -> Result<(), Duration> {
        if count == 0 {
            return Ok(());
        }
        self.refill(now);
        // More than fits will never be there, so a full bucket has to do for it.
        let needed = units(count).min(units(self.rate.size).saturating_add(self.burst));
        let missing = needed.saturating_sub(self.burst).saturating_sub(self.level);
        if missing > 0 { Err(self.time_for(missing)) } else { Ok(()) }
    }

    /// Takes `count` tokens, there or not.
    pub(crate) fn remove(&mut self, count: u64) {
        let count = units(count);
        let burst = count.min(self.burst);
        self.burst = self.burst.saturating_sub(burst);
        self.level = self.level.saturating_sub(count.saturating_sub(burst));
    }

    fn refill(&mut self, now: Instant) {
        let Some(elapsed) = now.checked_duration_since(self.updated) else { return };
        self.updated = now;
        let nanos = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        let earned = nanos.saturating_mul(self.rate.per_second.get().into());
        self.level = self.level.saturating_add(earned).min(units(self.rate.size));
    }

    /// How long it takes to earn so many units, rounded up.
    fn time_for(&self, units: i128) -> Duration {
        let (units, rate) = (units.unsigned_abs(), u128::from(self.rate.per_second.get()));
        // Units are billionths of tokens, and rates tokens a second: the quotient is nanoseconds.
        let nanos = units.div_ceil(rate);
        let second = UNIT.unsigned_abs();
        let rest = u32::try_from(nanos % second).unwrap_or(0);
        u64::try_from(nanos / second).map_or(Duration::MAX, |seconds| Duration::new(seconds, rest))
    }
}

fn units(tokens: u64) -> i128 {
    i128::from(tokens).saturating_mul(UNIT)
}

#[cfg(test)]
mod tests;
