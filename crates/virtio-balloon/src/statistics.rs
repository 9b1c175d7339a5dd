//! What the guest says of its memory (virtio 1.3 §5.5.6.4).

use std::time::Instant;

use virtio::Reader;

/// A tag of 16 bits and a value of 64, little endian and without a gap.
type Entry = [u8; 10];

/// How many entries of one buffer are looked at; the standard has 10 tags.
const MOST: usize = 64;

/// What the guest said of its memory last. It need not be true, and what it did not say is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// When it was said.
    pub at: Instant,
    /// Swapped in since boot, bytes.
    pub swapped_in: Option<u64>,
    /// Swapped out since boot, bytes.
    pub swapped_out: Option<u64>,
    /// Page faults that needed I/O.
    pub major_faults: Option<u64>,
    /// Page faults that did not.
    pub minor_faults: Option<u64>,
    /// Used for nothing, bytes.
    pub free: Option<u64>,
    /// All that the guest has, bytes.
    pub total: Option<u64>,
    /// What new programs could have without swapping, bytes.
    pub available: Option<u64>,
    /// Caches of files, bytes.
    pub caches: Option<u64>,
    /// Huge pages given out.
    pub huge_pages: Option<u64>,
    /// Huge pages asked for in vain.
    pub huge_pages_failed: Option<u64>,
}

impl Statistics {
    /// Reads statistics in any order. Tags that are not known, and half an entry at the end, are passed
    /// over.
    pub(crate) fn read(reader: &mut Reader<'_>, at: Instant) -> Self {
        let mut statistics = Self::none(at);
        for _ in 0..MOST {
            let Ok([low, high, value @ ..]) = reader.read_obj::<Entry>() else { break };
            if let Some(place) = statistics.place(u16::from_le_bytes([low, high])) {
                *place = Some(u64::from_le_bytes(value));
            }
        }
        statistics
    }

    fn none(at: Instant) -> Self {
        Self {
            at,
            swapped_in: None,
            swapped_out: None,
            major_faults: None,
            minor_faults: None,
            free: None,
            total: None,
            available: None,
            caches: None,
            huge_pages: None,
            huge_pages_failed: None,
        }
    }

    fn place(&mut self, tag: u16) -> Option<&mut Option<u64>> {
        Some(match tag {
            0 => &mut self.swapped_in,
            1 => &mut self.swapped_out,
            2 => &mut self.major_faults,
            3 => &mut self.minor_faults,
            4 => &mut self.free,
            5 => &mut self.total,
            6 => &mut self.available,
            7 => &mut self.caches,
            8 => &mut self.huge_pages,
            9 => &mut self.huge_pages_failed,
            _ => return None,
        })
    }
}
