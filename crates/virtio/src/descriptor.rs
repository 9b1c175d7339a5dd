//! One descriptor of a split queue (virtio 1.3 §2.7.5), copied out of the guest.

use memory::GuestAddress;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Where the buffer is.
    pub(crate) addr: GuestAddress,
    /// How many bytes it has.
    pub(crate) len: u32,
    flags: u16,
    /// Number of the descriptor after it, if there is one.
    pub(crate) next: u16,
}

impl Descriptor {
    /// The descriptor that these words are, of 64 bits each.
    #[inline]
    pub(crate) fn from_words(addr: u64, rest: u64) -> Self {
        let short = |shift: u32| u16::try_from(rest >> shift & 0xffff).unwrap_or(0);
        Self {
            addr: GuestAddress(addr),
            len: u32::try_from(rest & 0xffff_ffff).unwrap_or(0),
            flags: short(32),
            next: short(48),
        }
    }

    /// Whether another one follows.
    pub(crate) fn has_next(&self) -> bool {
        self.flags & NEXT != 0
    }

    /// Whether the device may write to the buffer, and not read it.
    pub(crate) fn is_write_only(&self) -> bool {
        self.flags & WRITE != 0
    }

    /// Whether it is a chain of its own, with room for the device to write.
    pub(crate) fn is_lone_room(&self) -> bool {
        self.flags & (NEXT | WRITE | INDIRECT) == WRITE && self.len > 0
    }

    /// Whether it leads to a table of descriptors, and not to a buffer.
    pub(crate) fn refers_to_indirect_table(&self) -> bool {
        self.flags & INDIRECT != 0
    }
}

#[cfg(test)]
impl Descriptor {
    pub(crate) fn new(addr: u64, len: u32, flags: u16, next: u16) -> Self {
        Self { addr: GuestAddress(addr), len, flags, next }
    }

    pub(crate) fn to_words(self) -> [u64; 2] {
        let rest = u64::from(self.len) | u64::from(self.flags) << 32 | u64::from(self.next) << 48;
        [self.addr.0.to_le(), rest.to_le()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_address_length_flags_and_next_in_this_order() {
        let descriptor = Descriptor::from_words(0x1_0000_0000, 0x0007_0003_0000_1000);
        assert_eq!(descriptor, Descriptor::new(0x1_0000_0000, 0x1000, NEXT | WRITE, 7));
        assert!(descriptor.has_next() && descriptor.is_write_only());
        assert!(!descriptor.refers_to_indirect_table());
        assert!(Descriptor::new(0, 16, INDIRECT, 0).refers_to_indirect_table());
        assert_eq!(descriptor.to_words(), [0x1_0000_0000, 0x0007_0003_0000_1000].map(u64::to_le));
    }
}
