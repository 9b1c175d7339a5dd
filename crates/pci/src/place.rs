//! The windows in which BARs can be.

use bus::{Mmio, Pio, Range};
use device::{Bar, BarKind};

/// The windows of the bus. Ports are held as wide as memory addresses.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    pub(crate) mem32: Range<Mmio>,
    pub(crate) mem64: Option<Range<Mmio>>,
    pub(crate) io: Option<Range<Mmio>>,
}

impl Windows {
    /// The windows that a BAR of this kind can be in, the best first.
    fn of(&self, kind: BarKind) -> impl Iterator<Item = Range<Mmio>> {
        let [first, second] = match kind {
            BarKind::Io => [self.io, None],
            BarKind::Memory64 { .. } => [self.mem64, Some(self.mem32)],
            _ => [Some(self.mem32), None],
        };
        first.into_iter().chain(second)
    }

    /// Whether a BAR of this kind can be at `at`.
    pub(crate) fn hold(&self, kind: BarKind, at: Range<Mmio>) -> bool {
        self.of(kind).any(|window| window.first() <= at.first() && at.last() <= window.last())
    }

    /// The lowest place for `bar` that is apart from all of `taken`.
    pub(crate) fn find(&self, bar: &Bar, taken: &[Range<Mmio>]) -> Option<Range<Mmio>> {
        self.of(bar.kind).find_map(|window| lowest(window, bar.size, taken))
    }
}

/// `ports` as wide as memory addresses.
pub(crate) fn widen(ports: Range<Pio>) -> Option<Range<Mmio>> {
    Range::new(ports.first().into(), ports.len_minus_one() + 1).ok()
}

fn lowest(window: Range<Mmio>, size: u64, taken: &[Range<Mmio>]) -> Option<Range<Mmio>> {
    let mut first = window.first().checked_next_multiple_of(size)?;
    loop {
        let at = Range::new(first, size).ok().filter(|at| at.last() <= window.last())?;
        match taken.iter().find(|taken| taken.overlaps(&at)) {
            Some(taken) => first = taken.last().checked_add(1)?.checked_next_multiple_of(size)?,
            None => return Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, len: u64) -> Range<Mmio> {
        Range::new(first, len).unwrap()
    }

    fn windows() -> Windows {
        Windows {
            mem32: range(0xd000_0000, 0x10000),
            mem64: Some(range(1 << 32, 0x10000)),
            io: Some(range(0xc000, 0x100)),
        }
    }

    fn bar(kind: BarKind, size: u64) -> Bar {
        Bar { index: 0, kind, size }
    }

    #[test]
    fn a_bar_goes_to_the_lowest_place_that_is_free_and_aligned() {
        let taken = [range(0xd000_0000, 0x1000), range(0xd000_2000, 0x10)];
        let at = windows().find(&bar(BarKind::Memory32, 0x2000), &taken).unwrap();
        assert_eq!(at.first(), 0xd000_4000);
    }

    #[test]
    fn a_64_bit_bar_prefers_the_high_window_and_falls_back_to_the_low_one() {
        let bar = bar(BarKind::Memory64 { prefetchable: false }, 0x10000);
        assert_eq!(windows().find(&bar, &[]).unwrap().first(), 1 << 32);
        let at = windows().find(&bar, &[range(1 << 32, 1)]).unwrap();
        assert_eq!(at.first(), 0xd000_0000);
    }

    #[test]
    fn a_bar_that_fits_nowhere_has_no_place() {
        assert!(windows().find(&bar(BarKind::Memory32, 0x20000), &[]).is_none());
        assert!(windows().find(&bar(BarKind::Io, 0x100), &[range(0xc0ff, 1)]).is_none());
    }

    #[test]
    fn a_window_holds_only_what_lies_whole_inside_of_it() {
        let windows = windows();
        assert!(windows.hold(BarKind::Memory32, range(0xd000_f000, 0x1000)));
        assert!(!windows.hold(BarKind::Memory32, range(0xd000_f000, 0x1001)));
        assert!(!windows.hold(BarKind::Memory32, range(1 << 32, 0x1000)));
        assert!(!windows.hold(BarKind::Io, range(0xbff0, 0x20)));
    }
}
