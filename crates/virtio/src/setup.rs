//! What every transport does alike: what the driver selects, and what it says of the queue that it
//! selected.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use device::EventFd;

use crate::{Device, ring::Ring, signal, worker::Worker};

/// The driver's way to a worker. Notification takes no lock; the rest takes the worker's.
pub(crate) struct Setup<D: Device> {
    worker: Arc<Mutex<Worker<D>>>,
    doorbells: Vec<EventFd>,
    pub(crate) device_features_sel: AtomicU32,
    pub(crate) driver_features_sel: AtomicU32,
    pub(crate) queue_sel: AtomicU32,
}

/// One of the three parts of a ring (virtio 1.3 §2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    /// The descriptor table.
    Descriptors,
    /// The available ring.
    Driver,
    /// The used ring.
    Device,
}

impl<D: Device> Setup<D> {
    pub(crate) fn new(worker: Arc<Mutex<Worker<D>>>, doorbells: Vec<EventFd>) -> Self {
        Self {
            worker,
            doorbells,
            device_features_sel: AtomicU32::new(0),
            driver_features_sel: AtomicU32::new(0),
            queue_sel: AtomicU32::new(0),
        }
    }

    pub(crate) fn worker(&self) -> MutexGuard<'_, Worker<D>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The selected queue.
    pub(crate) fn queue(&self) -> u32 {
        self.queue_sel.load(Relaxed)
    }

    /// What the selected word of the offered features is.
    pub(crate) fn offered(&self) -> u32 {
        word(self.worker().negotiation().offered(), self.device_features_sel.load(Relaxed))
    }

    /// What the selected word of the accepted features is.
    pub(crate) fn accepted(&self) -> u32 {
        word(self.worker().negotiation().accepted(), self.driver_features_sel.load(Relaxed))
    }

    /// The driver accepts `bits` of the selected word.
    pub(crate) fn accept(&self, bits: u32) {
        self.worker().accept(self.driver_features_sel.load(Relaxed), bits);
    }

    pub(crate) fn set_status(&self, value: u8) {
        self.worker().write_status(value);
        if value == 0 {
            let selectors = [&self.device_features_sel, &self.driver_features_sel, &self.queue_sel];
            selectors.into_iter().for_each(|selector| selector.store(0, Relaxed));
        }
    }

    /// What `look` says of the selected queue; the default if there is none.
    pub(crate) fn ring<T: Default>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        self.worker().ring(self.queue()).map(look).unwrap_or_default()
    }

    /// Sets the size of the selected queue; dropped unless it can be set up now.
    pub(crate) fn set_size(&self, size: u32) {
        if let Some(ring) = self.worker().ring_to_set(self.queue()) {
            ring.size = size;
        }
    }

    /// Half of the address (0 is the lower one) of an area of the selected queue.
    pub(crate) fn half(&self, area: Area, half: u32) -> u32 {
        let addr = |ring: &Ring| match area {
            Area::Descriptors => ring.descriptors,
            Area::Driver => ring.driver,
            Area::Device => ring.device,
        };
        word(self.ring(addr), half)
    }

    /// Sets half of the address of an area of the selected queue; dropped unless it can be set up
    /// now.
    pub(crate) fn set_half(&self, area: Area, half: u32, value: u32) {
        let mut worker = self.worker();
        let Some(ring) = worker.ring_to_set(self.queue()) else { return };
        let addr = match area {
            Area::Descriptors => &mut ring.descriptors,
            Area::Driver => &mut ring.driver,
            Area::Device => &mut ring.device,
        };
        let shift = 32 * half.min(1);
        *addr = *addr & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
    }

    /// The driver notifies `queue` by a register. Where the host signals doorbells by itself, hardly
    /// anything comes here.
    pub(crate) fn notify(&self, queue: u32) {
        if let Some(doorbell) = usize::try_from(queue).ok().and_then(|at| self.doorbells.get(at)) {
            signal(doorbell);
        }
    }
}

/// Word number `index` of a 64-bit value, least significant first; 0 beyond.
fn word(value: u64, index: u32) -> u32 {
    let shifted = index.checked_mul(32).and_then(|bits| value.checked_shr(bits)).unwrap_or(0);
    u32::try_from(shifted & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn a_64_bit_value_has_two_words() {
        let words = [0, 1, 2, 31, u32::MAX].map(|index| word(0x1122_3344_5566_7788, index));
        assert_eq!(words, [0x5566_7788, 0x1122_3344, 0, 0, 0]);
    }
}
