//! Address spaces as types, and ranges in them that cannot be wrong.

use std::fmt;

mod sealed {
    pub trait Sealed {}
}

/// An address space with its own address width. Implemented by [`Pio`] and [`Mmio`] only.
pub trait Space: sealed::Sealed + Copy + fmt::Debug + Send + Sync + 'static {
    /// An address in this space.
    type Addr: Copy + Ord + Into<u64> + TryFrom<u64> + fmt::LowerHex + fmt::Debug + Send + Sync;
    /// What messages call the space.
    const NAME: &'static str;
    /// The highest address of the space.
    const LAST: u64;
}

/// The I/O port space: 16-bit addresses, 0 to 0xffff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pio;

/// The memory space: 64-bit guest physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mmio;

impl sealed::Sealed for Pio {}
impl sealed::Sealed for Mmio {}

impl Space for Pio {
    type Addr = u16;
    const NAME: &'static str = "port";
    const LAST: u64 = 0xffff;
}

impl Space for Mmio {
    type Addr = u64;
    const NAME: &'static str = "memory";
    const LAST: u64 = u64::MAX;
}

/// A non-empty range of addresses, held as its first and last address, so that it can end at the
/// top of its space without overflowing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range<S: Space> {
    first: S::Addr,
    last: S::Addr,
}

/// Why a range cannot exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// A range holds at least one address.
    #[error("a {space} range at {first:#x} has length 0; a range holds at least one address")]
    Empty {
        /// The space's name.
        space: &'static str,
        /// Where the range was to start.
        first: u64,
    },
    /// The range would end beyond the space.
    #[error("a {space} range at {first:#x} of length {len:#x} ends beyond {last:#x}")]
    Overflow {
        /// The space's name.
        space: &'static str,
        /// Where the range was to start.
        first: u64,
        /// How many addresses it was to hold.
        len: u64,
        /// The highest address of the space.
        last: u64,
    },
}

impl<S: Space> Range<S> {
    /// The range of `len` addresses from `first` on.
    ///
    /// # Errors
    /// `len` is 0, or the range would end beyond the space.
    pub fn new(first: S::Addr, len: S::Addr) -> Result<Self, RangeError> {
        let (start, len) = (first.into(), len.into());
        let Some(beyond) = len.checked_sub(1) else {
            return Err(RangeError::Empty { space: S::NAME, first: start });
        };
        start
            .checked_add(beyond)
            .and_then(|last| S::Addr::try_from(last).ok())
            .map(|last| Self { first, last })
            .ok_or(RangeError::Overflow { space: S::NAME, first: start, len, last: S::LAST })
    }

    /// The first address.
    pub fn first(&self) -> S::Addr {
        self.first
    }

    /// The last address, which belongs to the range.
    pub fn last(&self) -> S::Addr {
        self.last
    }

    /// How many addresses the range holds, less one (the whole memory space has 2^64).
    pub fn len_minus_one(&self) -> u64 {
        self.last.into() - self.first.into()
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The offset of an access of `len` bytes at `at`, if the whole access lies inside the range.
    pub fn offset_of(&self, at: S::Addr, len: usize) -> Option<u64> {
        let beyond = u64::try_from(len).ok()?.checked_sub(1)?;
        let end = at.into().checked_add(beyond)?;
        (at >= self.first && end <= self.last.into()).then(|| at.into() - self.first.into())
    }
}

impl<S: Space> fmt::Debug for Range<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", S::NAME)
    }
}

impl<S: Space> fmt::Display for Range<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_end_at_the_top_of_its_space() {
        let range = Range::<Pio>::new(0xfffe, 2).unwrap();
        assert_eq!((range.first(), range.last()), (0xfffe, 0xffff));
        assert!(Range::<Mmio>::new(u64::MAX, 1).is_ok());
    }

    #[test]
    fn an_empty_range_is_refused() {
        let error = Range::<Pio>::new(0x10, 0).unwrap_err();
        assert_eq!(error, RangeError::Empty { space: "port", first: 0x10 });
    }

    #[test]
    fn a_range_beyond_its_space_is_refused_with_its_numbers() {
        let error = Range::<Pio>::new(0xffff, 2).unwrap_err();
        assert_eq!(error.to_string(), "a port range at 0xffff of length 0x2 ends beyond 0xffff");
        assert!(Range::<Mmio>::new(u64::MAX, 2).is_err());
    }

    #[test]
    fn an_access_that_leaves_the_range_has_no_offset() {
        let range = Range::<Mmio>::new(0x1000, 0x10).unwrap();
        assert_eq!(range.offset_of(0x100c, 4), Some(0xc));
        assert_eq!(range.offset_of(0x100d, 4), None);
        assert_eq!(range.offset_of(0xfff, 1), None);
        assert_eq!(range.offset_of(0x1000, 0), None);
        assert_eq!(range.offset_of(u64::MAX, 8), None);
    }

    #[test]
    fn ranges_overlap_when_they_share_one_address() {
        let a = Range::<Pio>::new(0x10, 8).unwrap();
        assert!(a.overlaps(&Range::new(0x17, 1).unwrap()));
        assert!(!a.overlaps(&Range::new(0x18, 1).unwrap()));
    }
}
