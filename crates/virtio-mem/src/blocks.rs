//! Which blocks are plugged.

use std::ops::Range;

const BITS: usize = 64;

/// One bit for each block of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    words: Vec<u64>,
    count: usize,
}

/// What blocks have in common (`VIRTIO_MEM_STATE_*`, virtio 1.3 §5.15.6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Plugged,
    Unplugged,
    Mixed,
}

impl Blocks {
    /// `count` blocks, none of them plugged.
    pub(crate) fn new(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(BITS)], count }
    }

    /// The blocks that `words` tells of, if it tells of `count` blocks and of no other.
    pub(crate) fn from_words(count: usize, words: Vec<u64>) -> Option<Self> {
        let beyond = match (words.last(), count % BITS) {
            (Some(last), used @ 1..) => last >> used,
            _ => 0,
        };
        (words.len() == count.div_ceil(BITS) && beyond == 0).then_some(Self { words, count })
    }

    /// Bit 0 of the first word is the first block.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many blocks there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The first run of plugged blocks.
    pub(crate) fn first_run(&self) -> Option<Range<usize>> {
        let start = self.find(0, true)?;
        Some(start..self.find(start, false).unwrap_or(self.count))
    }

    /// The first block from number `from` on that is plugged, or is not.
    fn find(&self, from: usize, plugged: bool) -> Option<usize> {
        let mut at = from;
        while at < self.count {
            let word = *self.words.get(at / BITS)?;
            let rest = (if plugged { word } else { !word }) >> (at % BITS);
            if rest != 0 {
                let found = at + usize::try_from(rest.trailing_zeros()).ok()?;
                return (found < self.count).then_some(found);
            }
            at = (at / BITS + 1) * BITS;
        }
        None
    }

    /// How many are plugged.
    pub(crate) fn plugged(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Makes the blocks of `range` plugged or not; those that do not exist stay as they are.
    pub(crate) fn set(&mut self, range: Range<usize>, plugged: bool) {
        for (word, mask) in masks(range.start..range.end.min(self.count)) {
            let Some(word) = self.words.get_mut(word) else { continue };
            *word = if plugged { *word | mask } else { *word & !mask };
        }
    }

    /// What the blocks of `range` are, which is not empty.
    pub(crate) fn state(&self, range: Range<usize>) -> State {
        let (mut all, mut any) = (true, false);
        for (word, mask) in masks(range) {
            let found = self.words.get(word).copied().unwrap_or(0) & mask;
            all &= found == mask;
            any |= found != 0;
        }
        match (all, any) {
            (true, _) => State::Plugged,
            (false, true) => State::Mixed,
            (false, false) => State::Unplugged,
        }
    }
}

/// The words that `range` touches, and which of their bits.
fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let left = range.end.checked_sub(at).filter(|left| *left > 0)?;
        let first = at % BITS;
        let len = left.min(BITS - first);
        let word = at / BITS;
        at += len;
        Some((word, (u64::MAX >> (BITS - len)) << first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_set_and_cleared_and_nothing_else() {
        for count in [1, 63, 64, 65, 130] {
            for start in 0..count {
                for end in start + 1..=count {
                    let mut blocks = Blocks::new(count);
                    blocks.set(start..end, true);
                    assert_eq!(blocks.plugged(), u64::try_from(end - start).unwrap());
                    assert_eq!(blocks.state(start..end), State::Plugged);
                    assert_eq!(blocks.first_run(), Some(start..end));
                    for (outside, state) in
                        [(0..start, State::Unplugged), (end..count, State::Unplugged)]
                    {
                        assert!(outside.is_empty() || blocks.state(outside) == state);
                    }
                    if end - start < count {
                        assert_eq!(blocks.state(0..count), State::Mixed);
                    }
                    blocks.set(start..end, false);
                    assert_eq!(blocks, Blocks::new(count));
                    assert_eq!(blocks.first_run(), None);
                }
            }
        }
    }

    #[test]
    fn blocks_that_do_not_exist_are_never_plugged() {
        let mut blocks = Blocks::new(65);
        blocks.set(60..1000, true);
        assert_eq!(blocks.plugged(), 5);
        assert_eq!(blocks.state(64..66), State::Mixed);
    }

    #[test]
    fn words_tell_of_as_many_blocks_as_there_are() {
        let mut blocks = Blocks::new(65);
        blocks.set(64..65, true);
        assert_eq!(Blocks::from_words(65, vec![0, 1]), Some(blocks));
        assert_eq!(Blocks::from_words(64, vec![u64::MAX]).map(|all| all.plugged()), Some(64));
        for (count, words) in [(65, vec![0, 2]), (65, vec![0]), (64, vec![0, 0]), (1, vec![])] {
            assert_eq!(Blocks::from_words(count, words), None);
        }
    }
}
