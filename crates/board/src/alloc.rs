//! What a machine has only so much of: addresses of the device window, and interrupt lines.

use std::{collections::BTreeMap, ops::RangeInclusive};

use bus::{Mmio, Range};
use device::{Irq, WireError};

/// Registers start at page borders, so that a hypervisor may map them.
const MIN_WINDOW: u64 = 4 << 10;

/// Gives out the device window from its start, each piece aligned to its own size.
#[derive(Debug)]
pub(crate) struct Window {
    next: u64,
    last: u64,
}

impl Window {
    pub(crate) fn new(window: &RangeInclusive<u64>) -> Self {
        Self { next: *window.start(), last: *window.end() }
    }

    pub(crate) fn take(&mut self, len: u64) -> Result<Range<Mmio>, WireError> {
        let free = self.last.saturating_sub(self.next).saturating_add(1);
        let full = || WireError::WindowFull { len, free };
        let size = len.checked_next_power_of_two().ok_or_else(full)?.max(MIN_WINDOW);
        let first = self.next.checked_next_multiple_of(size).ok_or_else(full)?;
        let next = first.checked_add(size).ok_or_else(full)?;
        if next - 1 > self.last {
            return Err(full());
        }
        let range = Range::new(first, len).map_err(|_| full())?;
        self.next = next;
        Ok(range)
    }
}

/// Gives out interrupt lines, and knows whose they are.
#[derive(Debug)]
pub(crate) struct Lines {
    free: RangeInclusive<u32>,
    owners: BTreeMap<u32, String>,
}

impl Lines {
    pub(crate) fn new(free: RangeInclusive<u32>) -> Self {
        Self { free, owners: BTreeMap::new() }
    }

    pub(crate) fn take(&mut self, want: Irq, owner: &str) -> Result<u32, WireError> {
        let gsi = match want {
            Irq::Fixed(gsi) => gsi,
            Irq::Any => {
                let (first, last) = (*self.free.start(), *self.free.end());
                let mut free = self.free.clone();
                let gsi = free.find(|gsi| !self.owners.contains_key(gsi));
                gsi.ok_or(WireError::NoIrq { first, last })?
            }
        };
        if let Some(owner) = self.owners.get(&gsi) {
            return Err(WireError::IrqTaken { gsi, owner: owner.clone() });
        }
        self.owners.insert(gsi, owner.to_owned());
        Ok(gsi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_to_their_size_and_do_not_overlap() {
        let mut window = Window::new(&(0x1000..=0xffff));
        let small = window.take(0x200).unwrap();
        let large = window.take(0x4000).unwrap();
        assert_eq!((small.first(), small.last()), (0x1000, 0x11ff));
        assert_eq!((large.first(), large.last()), (0x4000, 0x7fff));
    }

    #[test]
    fn a_full_window_says_what_is_left() {
        let mut window = Window::new(&(0x1000..=0x2fff));
        let error = window.take(0x4000).unwrap_err();
        assert!(matches!(error, WireError::WindowFull { len: 0x4000, free: 0x2000 }));
        assert!(window.take(u64::MAX).is_err());
        assert!(window.take(0).is_err());
        assert!(window.take(0x1000).is_ok());
    }

    #[test]
    fn a_fixed_line_is_given_once_and_its_owner_named() {
        let mut lines = Lines::new(16..=17);
        assert_eq!(lines.take(Irq::Fixed(4), "com1").unwrap(), 4);
        let error = lines.take(Irq::Fixed(4), "modem").unwrap_err();
        assert_eq!(error.to_string(), "interrupt line 4 belongs to `com1` already");
    }

    #[test]
    fn free_lines_are_given_until_none_is_left() {
        let mut lines = Lines::new(16..=17);
        assert_eq!(lines.take(Irq::Any, "a").unwrap(), 16);
        assert_eq!(lines.take(Irq::Any, "b").unwrap(), 17);
        let error = lines.take(Irq::Any, "c").unwrap_err();
        assert!(matches!(error, WireError::NoIrq { first: 16, last: 17 }));
    }
}
