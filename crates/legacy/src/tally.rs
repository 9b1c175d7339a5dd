//! Counting what a guest can cause without end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A counter that says when it is worth a line in the log: at 1, 2, 4, 8, ... so that a guest cannot
/// make the log grow faster than the logarithm of its effort. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<AtomicU64>);

impl Tally {
    /// Adds `n`; returns the new count if it has reached or passed a power of two.
    pub(crate) fn add(&self, n: usize) -> Option<u64> {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        let old = self.0.fetch_add(n, Ordering::Relaxed);
        let new = old.wrapping_add(n);
        (n != 0 && new.checked_ilog2() != old.checked_ilog2()).then_some(new)
    }

    /// The count.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_are_worth_a_line() {
        let tally = Tally::default();
        let lines: Vec<u64> = (0..1000).filter_map(|_| tally.add(1)).collect();
        assert_eq!(lines, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!(tally.count(), 1000);
    }

    #[test]
    fn a_step_over_a_power_of_two_is_one_line() {
        let tally = Tally::default();
        assert_eq!(tally.add(100), Some(100));
        assert_eq!(tally.add(20), None);
        assert_eq!(tally.add(20), Some(140));
        assert_eq!(tally.add(0), None);
    }
}
