//! One queue: what the driver says about it, and the ring while it is in use.

use memory::GuestMemory;
use virtio_queue::{QueueState, QueueT};

use crate::{RingState, in_flight::InFlight, split::Split, used};

/// Largest split queue (virtio 1.3 §2.7).
const MAX_SIZE: u16 = 32768;

/// One queue of a device. The driver's settings are kept as it wrote them and looked at when it
/// enables the queue.
#[derive(Debug)]
pub(crate) struct Ring {
    max_size: u16,
    pub(crate) size: u32,
    pub(crate) descriptors: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
    queue: Option<Split>,
    /// The device has said [`Served::Stall`](crate::Served::Stall).
    pub(crate) stalled: bool,
    /// The device has said [`Served::Pending`](crate::Served::Pending) to these.
    pub(crate) in_flight: InFlight,
    /// Somebody else serves the ring: it must not be touched.
    pub(crate) offloaded: bool,
    /// Pending chains were used, and the driver does not know yet.
    pub(crate) untold: bool,
    /// Index of the used ring when the driver's wish for interrupts was last looked at.
    told: u16,
}

/// Why a queue cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The device wants a queue that cannot be.
    #[error("a queue of at most {0} entries cannot be; sizes are powers of two up to {MAX_SIZE}")]
    MaxSize(u16),
    /// The driver wants a queue that cannot be.
    #[error("a queue of {size} entries cannot be; sizes are powers of two up to {max}")]
    Size {
        /// What the driver wants.
        size: u32,
        /// What the device offers.
        max: u16,
    },
    /// The host has no event left for a queue.
    #[error("the host has no event left for a queue: {0}")]
    Event(std::io::ErrorKind),
    /// A ring is not aligned, or does not lie in RAM.
    #[error("{what} at {addr:#x} is not {len} bytes of RAM aligned to {align}")]
    Place {
        /// Which of the three areas.
        what: &'static str,
        /// Guest physical address.
        addr: u64,
        /// Length, bytes.
        len: usize,
        /// Alignment, bytes.
        align: u64,
    },
}

impl Ring {
    /// A queue that no driver has touched.
    pub(crate) fn new(max_size: u16) -> Result<Self, RingError> {
        if !max_size.is_power_of_two() || max_size > MAX_SIZE {
            return Err(RingError::MaxSize(max_size));
        }
        Ok(Self {
            max_size,
            size: max_size.into(),
            descriptors: 0,
            driver: 0,
            device: 0,
            queue: None,
            stalled: false,
            in_flight: InFlight::default(),
            offloaded: false,
            untold: false,
            told: 0,
        })
    }

    /// Back to a queue that no driver has touched.
    pub(crate) fn reset(&mut self) {
        self.size = self.max_size.into();
        (self.descriptors, self.driver, self.device) = (0, 0, 0);
        self.disable();
    }

    /// The driver takes the queue out of use; its settings stay.
    pub(crate) fn disable(&mut self) {
        self.queue = None;
        self.stalled = false;
        self.untold = false;
    }

    pub(crate) fn max_size(&self) -> u16 {
        self.max_size
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.queue.is_some()
    }

    pub(crate) fn queue(&mut self) -> Option<&mut Split> {
        self.queue.as_mut()
    }

    /// The queue, if it is in use, and the chains of it that the device has kept.
    pub(crate) fn in_use(&mut self) -> Option<(&mut Split, &InFlight)> {
        Some((self.queue.as_mut()?, &self.in_flight))
    }

    /// How many chains the device has kept.
    pub(crate) fn pending(&self) -> usize {
        self.in_flight.count()
    }

    /// Whether the driver wants to be interrupted for what was used since this was last asked.
    pub(crate) fn wants_interrupt(&mut self) -> Result<bool, virtio_queue::Error> {
        let Some(queue) = self.queue.as_ref() else { return Ok(false) };
        let wants = used::wants_interrupt(queue, self.told)?;
        self.told = queue.state.next_used();
        Ok(wants)
    }

    /// The driver puts the queue into use, from its start.
    pub(crate) fn enable(&mut self, memory: &GuestMemory, events: bool) -> Result<(), RingError> {
        self.queue = Some(self.build(memory, events, (0, 0))?);
        self.told = 0;
        Ok(())
    }

    /// A ring at `indices` (next available, next used), checked against RAM.
    fn build(
        &self,
        memory: &GuestMemory,
        event_idx_enabled: bool,
        (next_avail, next_used): (u16, u16),
    ) -> Result<Split, RingError> {
        let wrong_size = RingError::Size { size: self.size, max: self.max_size };
        let size = u16::try_from(self.size).map_err(|_| wrong_size)?;
        if !size.is_power_of_two() || size > self.max_size {
            return Err(wrong_size);
        }
        let state = QueueState {
            max_size: self.max_size,
            next_avail,
            next_used,
            event_idx_enabled,
            size,
            ready: true,
            desc_table: self.descriptors,
            avail_ring: self.driver,
            used_ring: self.device,
        };
        Split::new(state, memory)
    }

    pub(crate) fn save(&self) -> RingState {
        let indices =
            self.queue.as_ref().map(|Split { state, .. }| (state.next_avail(), state.next_used()));
        let (next_avail, next_used) = indices.unwrap_or_default();
        RingState {
            max_size: self.max_size,
            size: self.size,
            descriptors: self.descriptors,
            driver: self.driver,
            device: self.device,
            ready: self.is_ready(),
            next_avail,
            next_used,
        }
    }

    /// The queue that `state` describes, if it is one of this device's and its rings lie in RAM.
    pub(crate) fn restored(
        &self,
        state: &RingState,
        memory: &GuestMemory,
        events: bool,
    ) -> Result<Self, RingError> {
        let &RingState { max_size, size, descriptors, driver, device, .. } = state;
        if max_size != self.max_size {
            return Err(RingError::Size { size: max_size.into(), max: self.max_size });
        }
        let mut ring = Self { size, descriptors, driver, device, ..Self::new(max_size)? };
        if state.ready {
            let indices = (state.next_avail, state.next_used);
            ring.queue = Some(ring.build(memory, events, indices)?);
            ring.told = state.next_used;
        }
        Ok(ring)
    }
}

#[cfg(test)]
mod tests {
    use device::{FakeWiring, Wiring};

    use super::*;

    fn ring() -> (Ring, GuestMemory) {
        let mut ring = Ring::new(8).unwrap();
        (ring.descriptors, ring.driver, ring.device) = (0x1000, 0x2000, 0x3000);
        (ring, FakeWiring::new().unwrap().memory())
    }

    #[test]
    fn a_device_may_have_queues_of_powers_of_two() {
        assert!(Ring::new(1).is_ok());
        assert!(Ring::new(32768).is_ok());
        assert_eq!(Ring::new(0).unwrap_err(), RingError::MaxSize(0));
        assert_eq!(Ring::new(12).unwrap_err(), RingError::MaxSize(12));
    }

    #[test]
    fn a_queue_of_another_size_is_refused() {
        let (mut ring, memory) = ring();
        for size in [0, 3, 16, 0x1_0008, u32::MAX] {
            ring.size = size;
            assert_eq!(ring.enable(&memory, false), Err(RingError::Size { size, max: 8 }));
            assert!(!ring.is_ready());
        }
        ring.size = 4;
        assert_eq!(ring.enable(&memory, false), Ok(()));
    }

    #[test]
    fn rings_must_lie_in_ram_to_their_last_byte() {
        let (mut ring, memory) = ring();
        ring.device = (1 << 20) - 72;
        assert_eq!(ring.enable(&memory, true), Ok(()));
        ring.device = (1 << 20) - 68;
        let what = "the used ring";
        let place = RingError::Place { what, addr: ring.device, len: 70, align: 4 };
        assert_eq!(ring.enable(&memory, true), Err(place));
        (ring.descriptors, ring.device) = (!15, 0x3000);
        assert!(ring.enable(&memory, true).is_err());
    }

    #[test]
    fn rings_must_be_aligned() {
        for (descriptors, driver, device) in
            [(0x1008, 0x2000, 0x3000), (0x1000, 0x2001, 0x3000), (0x1000, 0x2000, 0x3002)]
        {
            let (mut ring, memory) = ring();
            (ring.descriptors, ring.driver, ring.device) = (descriptors, driver, device);
            assert!(matches!(ring.enable(&memory, false), Err(RingError::Place { .. })));
        }
    }

    #[test]
    fn a_saved_queue_comes_back_and_is_checked() {
        let (mut ring, memory) = ring();
        ring.enable(&memory, true).unwrap();
        ring.queue().unwrap().state.set_next_avail(7);
        let state = ring.save();
        assert_eq!(ring.restored(&state, &memory, true).unwrap().save(), state);
        let bad = [
            RingState { max_size: 16, ..state.clone() },
            RingState { size: 0, ..state.clone() },
            RingState { device: 1 << 20, ..state },
        ];
        assert!(bad.iter().all(|state| ring.restored(state, &memory, true).is_err()));
    }
}
