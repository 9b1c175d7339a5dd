//! The header in front of each packet (virtio 1.3 §5.1.6), little endian:
//!
//! | at | field         |                                                      |
//! |----|---------------|------------------------------------------------------|
//! | 0  | `flags`       | bit 0: a checksum is to be computed                  |
//! | 1  | `gso_type`    | how the packet is to be cut; bit 7: with ECN         |
//! | 2  | `hdr_len`     | a hint                                               |
//! | 4  | `gso_size`    | bytes of data in each segment                        |
//! | 6  | `csum_start`  | from where on the checksum is computed               |
//! | 8  | `csum_offset` | where it goes, from there                            |
//! | 10 | `num_buffers` | how many chains the packet is in, to the driver only |

use net::HEADER;

use crate::feature::{CSUM, HOST_ECN, HOST_TSO4, HOST_TSO6};

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

/// A header, copied out of the guest or made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header(pub(crate) [u8; HEADER]);

impl Header {
    /// The header of a packet that needs no more work.
    pub(crate) const PLAIN: Self = Self([0; HEADER]);

    /// Says in how many chains the packet is.
    pub(crate) fn with_buffers(self, count: u16) -> Self {
        let [rest @ .., _, _] = self.0;
        let mut bytes = [0; HEADER];
        for (to, from) in bytes.iter_mut().zip(rest.into_iter().chain(count.to_le_bytes())) {
            *to = from;
        }
        Self(bytes)
    }

    /// Whether a driver that has accepted `features` may ask for this with a packet of `len` bytes.
    /// Flags that are for the other direction do not count (§5.1.6.2.2).
    pub(crate) fn is_fit(self, features: u64, len: usize) -> bool {
        let [flags, kind, _, _, size_low, size_high, start_low, start_high, at_low, at_high, _, _] =
            self.0;
        let agreed = |feature: u64| features & feature != 0;
        let sums = flags & NEEDS_CSUM != 0;
        let start = usize::from(u16::from_le_bytes([start_low, start_high]));
        let end = start + usize::from(u16::from_le_bytes([at_low, at_high])) + 2;
        if sums && (!agreed(CSUM) || end > len) {
            return false;
        }
        let cut = match kind & !GSO_ECN {
            GSO_NONE => return kind == GSO_NONE,
            GSO_TCPV4 => agreed(HOST_TSO4),
            GSO_TCPV6 => agreed(HOST_TSO6),
            _ => false,
        };
        let has_size = u16::from_le_bytes([size_low, size_high]) != 0;
        cut && sums && has_size && (kind & GSO_ECN == 0 || agreed(HOST_ECN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN;

    fn header(flags: u8, kind: u8, size: u8, start: u8, offset: u8) -> Header {
        Header([flags, kind, 0xff, 0xff, size, 0, start, 0, offset, 0, 0xff, 0xff])
    }

    #[test]
    fn a_packet_without_work_is_always_fit() {
        assert!(Header::PLAIN.is_fit(0, 14));
        assert!(header(0, 0, 9, 200, 200).is_fit(0, 14), "unused fields do not count");
        assert!(header(0xfe, 0, 0, 0, 0).is_fit(0, 14), "nor do flags of the other direction");
    }

    #[test]
    fn a_checksum_must_lie_in_the_packet() {
        assert!(header(1, 0, 0, 34, 16).is_fit(CSUM, 52));
        assert!(!header(1, 0, 0, 34, 16).is_fit(CSUM, 51));
        assert!(!header(1, 0, 0, 34, 16).is_fit(ALL & !CSUM, 60));
        let huge = Header([1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        assert!(!huge.is_fit(ALL, 60));
    }

    #[test]
    fn segments_need_their_feature_a_checksum_and_a_size() {
        for (kind, feature) in [(1, HOST_TSO4), (4, HOST_TSO6), (0x81, HOST_TSO4 | HOST_ECN)] {
            assert!(header(1, kind, 1, 34, 16).is_fit(CSUM | feature, 100), "{kind}");
            assert!(!header(1, kind, 1, 34, 16).is_fit(ALL & !feature, 100), "{kind}");
            assert!(!header(0, kind, 1, 34, 16).is_fit(ALL, 100), "{kind} without checksum");
            assert!(!header(1, kind, 0, 34, 16).is_fit(ALL, 100), "{kind} without size");
        }
        assert!(!header(1, 0x81, 1, 34, 16).is_fit(ALL & !HOST_ECN, 100));
    }

    #[test]
    fn other_kinds_are_never_fit() {
        for kind in (0..=u8::MAX).filter(|kind| ![0, 1, 4, 0x81, 0x84].contains(kind)) {
            assert!(!header(1, kind, 1, 34, 16).is_fit(u64::MAX, 100), "{kind:#x}");
        }
    }

    #[test]
    fn the_number_of_chains_comes_last() {
        let header = header(1, 2, 3, 4, 5).with_buffers(0x0102);
        assert_eq!(header.0, [1, 2, 0xff, 0xff, 3, 0, 4, 0, 5, 0, 2, 1]);
    }
}
