//! What many samples say together.

use serde::Serialize;

/// The middle and the spread of samples, in the samples' own unit. All numbers are 0 if there are
/// none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// How many samples there are.
    pub(crate) count: usize,
    /// The least.
    pub(crate) min: f64,
    /// A quarter of the samples lies below.
    pub(crate) lower_quartile: f64,
    /// Half of the samples lies below.
    pub(crate) median: f64,
    /// Three quarters of the samples lie below.
    pub(crate) upper_quartile: f64,
    /// The greatest.
    pub(crate) max: f64,
    /// Half of the samples lies closer to the median than this (median absolute deviation).
    pub(crate) deviation: f64,
}

impl Summary {
    /// Sums up `samples`, in any order.
    pub(crate) fn of(samples: &[f64]) -> Self {
        let sorted = sort(samples.iter().copied());
        let median = quantile(&sorted, 2);
        let deviations = sort(sorted.iter().map(|sample| (sample - median).abs()));
        Self {
            count: sorted.len(),
            min: quantile(&sorted, 0),
            lower_quartile: quantile(&sorted, 1),
            median,
            upper_quartile: quantile(&sorted, 3),
            max: quantile(&sorted, 4),
            deviation: quantile(&deviations, 2),
        }
    }

    /// Sums up `ours / theirs`, sample by sample: what is slow for both at one time does not count.
    pub(crate) fn of_ratio(ours: &[f64], theirs: &[f64]) -> Self {
        let ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self::of(&ratios)
    }
}

fn sort(samples: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = samples.collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which `quarters` quarters of the samples lie, between two samples if need be.
fn quantile(sorted: &[f64], quarters: usize) -> f64 {
    let place = sorted.len().saturating_sub(1) * quarters;
    let at = |index: usize| sorted.get(index).copied();
    let low = at(place / 4).unwrap_or(0.0);
    let high = at(place / 4 + 1).unwrap_or(low);
    let part = [0.0, 0.25, 0.5, 0.75].get(place % 4).copied().unwrap_or(0.0);
    low + (high - low) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_number_of_samples_has_its_middle_one_as_median() {
        let summary = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((summary.min, summary.median, summary.max), (1.0, 3.0, 5.0));
        assert_eq!((summary.lower_quartile, summary.upper_quartile), (2.0, 4.0));
    }

    #[test]
    fn an_even_number_of_samples_has_a_median_between_two() {
        let summary = Summary::of(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!(summary.median, 2.5);
        assert_eq!((summary.lower_quartile, summary.upper_quartile), (1.75, 3.25));
    }

    #[test]
    fn one_wild_sample_moves_neither_median_nor_deviation() {
        let (calm, wild) = ([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 500.0]);
        assert_eq!(Summary::of(&calm).median, Summary::of(&wild).median);
        assert_eq!((Summary::of(&calm).deviation, Summary::of(&wild).deviation), (1.0, 1.0));
    }

    #[test]
    fn no_samples_and_one_sample_are_summed_up_too() {
        assert_eq!(Summary::of(&[]), Summary::default());
        let one = Summary::of(&[7.0]);
        assert_eq!((one.min, one.median, one.max, one.deviation), (7.0, 7.0, 7.0, 0.0));
    }

    #[test]
    fn a_ratio_is_taken_pair_by_pair() {
        let ratio = Summary::of_ratio(&[10.0, 200.0, 30.0], &[10.0, 100.0, 10.0]);
        assert_eq!((ratio.min, ratio.median, ratio.max), (1.0, 2.0, 3.0));
    }
}
