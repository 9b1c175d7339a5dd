//! Samples of several subjects, taken in turns.

use crate::error::Result;

/// Takes one sample of the subject with a number.
pub(crate) type Sample<'a> = &'a mut dyn FnMut(usize) -> Result<f64>;

/// Takes `rounds` samples of each of `subjects` subjects and gives them by subject. A round takes
/// one of each, starting with the next subject each time, so that a change of the machine's speed
/// and the state that one subject leaves to another hit all alike. A first round is not counted.
pub(crate) fn interleave(
    rounds: usize,
    subjects: usize,
    sample: Sample<'_>,
) -> Result<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::with_capacity(rounds); subjects];
    for subject in 0..subjects {
        sample(subject)?;
    }
    for round in 0..rounds {
        for turn in 0..subjects {
            let subject = (round + turn) % subjects;
            let taken = sample(subject)?;
            samples.iter_mut().skip(subject).take(1).for_each(|of| of.push(taken));
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_turns_and_the_first_round_does_not_count() {
        let mut order = Vec::new();
        let samples = interleave(3, 2, &mut |subject| {
            order.push(subject);
            Ok(order.len() as f64)
        });
        assert_eq!(order, [0, 1, 0, 1, 1, 0, 0, 1]);
        assert_eq!(samples.unwrap(), [[3.0, 6.0, 7.0], [4.0, 5.0, 8.0]]);
    }

    #[test]
    fn a_sample_that_fails_ends_the_rounds() {
        assert!(interleave(1, 1, &mut |_| Err("no".into())).is_err());
    }
}
