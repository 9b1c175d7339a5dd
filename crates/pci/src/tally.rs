//! Log lines that a guest can cause without end.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts, and says when the count is worth a line: at 1, 2, 4, 8, ...
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    /// Counts one more; the new count if it is a power of two.
    pub(crate) fn add(&self) -> Option<u64> {
        let count = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        count.is_power_of_two().then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_are_worth_a_line() {
        let tally = Tally::default();
        let lines: Vec<u64> = (0..100).filter_map(|_| tally.add()).collect();
        assert_eq!(lines, [1, 2, 4, 8, 16, 32, 64]);
    }
}
