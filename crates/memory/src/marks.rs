//! The marks of one region's pages.

use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::bitmap::{Bitmap, NewBitmap, RefSlice, WithBitmapSlice};

/// log2 of a page's size: pages of 4 KiB are marked.
const SHIFT: u32 = 12;

/// Which pages of a region the VMM has written: a bit for each page of 4 KiB, 64 of them in a word.
///
/// A mark comes after what it is about was written, and whoever takes it reads the page afterwards.
#[derive(Debug, Default)]
pub struct Marks {
    words: Box<[AtomicU64]>,
}

impl Marks {
    /// As [`mark_dirty`](Bitmap::mark_dirty), and cheaper for many pages. What was written must be
    /// followed by a fence (`SeqCst`) before: then a mark that is found was not taken yet by anybody who
    /// does not see it.
    pub(crate) fn mark_fenced(&self, offset: usize, len: usize) {
        self.each_word(offset, len, |word, mask| {
            if word.load(Ordering::Relaxed) & mask != mask {
                word.fetch_or(mask, Ordering::SeqCst);
            }
        });
    }

    /// Calls `mark` for each word that has bits of the `len` bytes at `offset`, and with these bits.
    #[inline]
    fn each_word(&self, offset: usize, len: usize, mark: impl Fn(&AtomicU64, u64)) {
        if len == 0 {
            return;
        }
        let (first, last) = (offset >> SHIFT, offset.saturating_add(len - 1) >> SHIFT);
        let end = (last / 64 + 1).min(self.words.len());
        let words = self.words.get(first / 64..end).unwrap_or_default();
        for (word, index) in words.iter().zip(first / 64..) {
            let from = if index == first / 64 { first % 64 } else { 0 };
            let to = if index == last / 64 { last % 64 } else { 63 };
            mark(word, u64::MAX >> (63 - to) & u64::MAX << from);
        }
    }

    /// Takes all marks.
    pub(crate) fn take(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.swap(0, Ordering::SeqCst)).collect()
    }
}

impl<'a> WithBitmapSlice<'a> for Marks {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for Marks {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.each_word(offset, len, |word, mask| {
            word.fetch_or(mask, Ordering::SeqCst);
        });
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let page = offset >> SHIFT;
        let word = self.words.get(page / 64).map_or(0, |word| word.load(Ordering::Acquire));
        word >> (page % 64) & 1 == 1
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }
}

impl NewBitmap for Marks {
    fn with_len(len: usize) -> Self {
        let words = len.div_ceil(1 << SHIFT).div_ceil(64);
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 1 << SHIFT;

    /// The pages that are marked, taken.
    fn taken(marks: &Marks) -> Vec<usize> {
        let words = marks.take();
        let pages = 0..words.len() * 64;
        pages.filter(|page| words[page / 64] >> (page % 64) & 1 == 1).collect()
    }

    #[test]
    fn every_page_that_was_touched_is_marked_and_no_other() {
        let marks = Marks::with_len(256 * PAGE);
        for (offset, len, pages) in [
            (0, 1, 0..1),
            (PAGE - 1, 1, 0..1),
            (PAGE - 1, 2, 0..2),
            (63 * PAGE, PAGE, 63..64),
            (63 * PAGE, PAGE + 1, 63..65),
            (64 * PAGE, 64 * PAGE, 64..128),
            (PAGE, 200 * PAGE, 1..201),
            (5 * PAGE, 0, 0..0),
        ] {
            let expected: Vec<usize> = pages.collect();
            marks.mark_dirty(offset, len);
            assert_eq!(taken(&marks), expected, "{len} at {offset}");
            marks.mark_fenced(offset, len);
            marks.mark_fenced(offset, len);
            assert_eq!(taken(&marks), expected, "{len} at {offset}, behind a fence");
        }
    }

    #[test]
    fn what_is_marked_already_keeps_nothing_from_being_marked() {
        let marks = Marks::with_len(64 * PAGE);
        marks.mark_dirty(PAGE, 1);
        marks.mark_fenced(0, 3 * PAGE);
        assert_eq!(taken(&marks), [0, 1, 2]);
    }

    #[test]
    fn what_is_beyond_the_end_is_ignored() {
        let marks = Marks::with_len(64 * PAGE);
        marks.mark_dirty(63 * PAGE, 9 * PAGE);
        marks.mark_dirty(usize::MAX, 2);
        marks.mark_dirty(63 * PAGE, usize::MAX);
        assert_eq!(taken(&marks), [63]);
        assert!(!marks.dirty_at(64 * PAGE) && !Marks::default().dirty_at(0));
    }

    #[test]
    fn a_slice_marks_from_its_start_on() {
        let marks = Marks::with_len(8 * PAGE);
        marks.slice_at(2 * PAGE).mark_dirty(PAGE, 1);
        assert!(marks.dirty_at(3 * PAGE) && marks.dirty_at(4 * PAGE - 1));
        assert!(!marks.dirty_at(2 * PAGE) && marks.slice_at(3 * PAGE).dirty_at(0));
    }
}
