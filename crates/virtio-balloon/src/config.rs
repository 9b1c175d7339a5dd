//! What the device is asked to be, and what the driver sees of that.

use std::time::Duration;

/// `VIRTIO_BALLOON_F_STATS_VQ`: the driver tells statistics of its memory.
const STATS_VQ: u64 = 1 << 1;
/// `VIRTIO_BALLOON_F_DEFLATE_ON_OOM`: the driver may take pages back when it is out of memory.
const DEFLATE_ON_OOM: u64 = 1 << 2;
/// `VIRTIO_BALLOON_F_PAGE_POISON`: the driver says what it fills free pages with.
const PAGE_POISON: u64 = 1 << 4;
/// `VIRTIO_BALLOON_F_PAGE_REPORTING`: the driver reports free pages.
const PAGE_REPORTING: u64 = 1 << 5;

/// How a balloon is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonConfig {
    /// Whether the guest may take pages back from the balloon before it runs out of memory.
    pub deflate_on_oom: bool,
    /// Whether the guest reports pages that it does not use, which are given back to the host without
    /// anybody asking for a smaller guest.
    pub free_page_reporting: bool,
    /// How often the guest is asked for statistics of its memory; 0 is when
    /// [`Balloon::ask`](crate::Balloon::ask) does. `None`: never.
    pub statistics: Option<Duration>,
}

impl BalloonConfig {
    /// The features to offer.
    pub(crate) fn features(self) -> u64 {
        let bit = |on: bool, bits: u64| if on { bits } else { 0 };
        bit(self.deflate_on_oom, DEFLATE_ON_OOM)
            | bit(self.free_page_reporting, PAGE_REPORTING | PAGE_POISON)
            | bit(self.statistics.is_some(), STATS_VQ)
    }

    /// The size of each queue.
    ///
    /// Queues 3 and 4 of the standard are those of free page hints, which this device does not have,
    /// and of reports. Linux and its devices do not count queues that are not there, so its reports
    /// come by number 2 or 3: whatever is beyond the others is for reports.
    pub(crate) fn queues(self) -> &'static [u16] {
        match (self.free_page_reporting, self.statistics) {
            (true, _) => &[128; 5],
            (false, Some(_)) => &[128; 3],
            (false, None) => &[128; 2],
        }
    }
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Agreed {
    pub(crate) statistics: bool,
    pub(crate) poison: bool,
}

impl Agreed {
    pub(crate) fn new(features: u64) -> Self {
        Self { statistics: features & STATS_VQ != 0, poison: features & PAGE_POISON != 0 }
    }
}

/// The configuration space (virtio 1.3 §5.5.4): four numbers of 32 bits, little endian.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space([u8; 16]);

/// How many pages of 4 KiB the balloon should have.
const NUM_PAGES: usize = 0;
/// How many it has, by its driver.
const ACTUAL: usize = 4;
/// What free pages are filled with.
const POISON: usize = 12;

impl Space {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The driver writes `data` at `offset`: of that, what it may write is taken.
    pub(crate) fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            let writable = (ACTUAL..ACTUAL + 4).contains(&at) || at >= POISON;
            if writable && let Some(place) = self.0.get_mut(at) {
                *place = *byte;
            }
        }
    }

    pub(crate) fn target(&self) -> u32 {
        self.get(NUM_PAGES)
    }

    pub(crate) fn set_target(&mut self, pages: u32) {
        self.set(NUM_PAGES, pages);
    }

    pub(crate) fn actual(&self) -> u32 {
        self.get(ACTUAL)
    }

    pub(crate) fn set_actual(&mut self, pages: u32) {
        self.set(ACTUAL, pages);
    }

    pub(crate) fn poison(&self) -> u32 {
        self.get(POISON)
    }

    pub(crate) fn set_poison(&mut self, value: u32) {
        self.set(POISON, value);
    }

    fn get(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    fn set(&mut self, at: usize, value: u32) {
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_writes_what_it_has_and_not_what_it_should_have() {
        let mut space = Space::default();
        space.set_target(7);
        space.write(0, &[0xff; 16]);
        assert_eq!([space.target(), space.actual(), space.poison()], [7, u32::MAX, u32::MAX]);
        assert_eq!(space.bytes()[8..12], [0; 4]);
    }

    #[test]
    fn a_number_may_be_written_byte_by_byte() {
        let mut space = Space::default();
        for (at, byte) in (4..).zip([1, 2, 3, 4]) {
            space.write(at, &[byte]);
        }
        assert_eq!(space.actual(), 0x0403_0201);
    }

    #[test]
    fn features_are_those_of_the_configuration() {
        let none = BalloonConfig::default();
        assert_eq!((none.features(), none.queues().len()), (0, 2));
        let statistics = BalloonConfig { statistics: Some(Duration::ZERO), ..none };
        assert_eq!((statistics.features(), statistics.queues().len()), (STATS_VQ, 3));
        let all = BalloonConfig { deflate_on_oom: true, free_page_reporting: true, ..statistics };
        assert_eq!((all.features(), all.queues().len()), (0b11_0110, 5));
    }
}
