//! Queues that somebody else serves: another process, or the host's kernel.

use std::{error::Error, io};

use device::EventFd;
use memory::GuestMemory;
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

use crate::{Call, Device, RingError, ring::Ring, signal};

/// Why a queue cannot be served elsewhere, for the log.
pub type OffloadError = Box<dyn Error + Send + Sync>;

/// What a device is whose queues are served elsewhere (see [`Device::offload`]). The worker agrees on
/// features and queues with the driver as ever, and then hands the rings over instead of serving them.
///
/// Calls come under the device's lock and must not block for long; a server that does not answer is the
/// implementation's problem.
pub trait Offload {
    /// Has queue number `queue` served from `ring.next` on, until [`stop`](Self::stop). The features
    /// are those of the last [`negotiated`](Device::negotiated).
    ///
    /// A server that is gone for the moment is no error: the ring is kept until it is back.
    ///
    /// # Errors
    /// The ring can never be served; the device then asks its driver for a reset.
    fn start(&mut self, queue: u16, ring: OffloadedRing) -> Result<(), OffloadError>;

    /// Has queue number `queue`, which was started, left alone from now on, and says the index of the
    /// next chain that was not taken.
    fn stop(&mut self, queue: u16) -> u16;

    /// Queue number `queue` was [called](OffloadedRing::call): its server has used buffers, and the
    /// driver is being interrupted.
    fn called(&mut self, _queue: u16) {}

    /// A [source](Device::sources) has become ready.
    ///
    /// # Errors
    /// The device can no longer be used as it is; it asks its driver for a reset.
    fn ready(&mut self) -> Result<(), OffloadError> {
        Ok(())
    }
}

/// A queue that is handed over. Size and places are checked: they lie in RAM.
#[derive(Debug)]
pub struct OffloadedRing {
    /// Guest RAM, in which the ring and its buffers are.
    pub memory: GuestMemory,
    /// How many entries it has.
    pub size: u16,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the driver's area (available ring).
    pub driver: u64,
    /// Guest physical address of the device's area (used ring).
    pub device: u64,
    /// Index of the next chain to take.
    pub next: u16,
    /// Signalled when the driver notifies, and once in the beginning.
    pub kick: EventFd,
    /// To be signalled when the driver is to be interrupted.
    pub call: Call,
}

/// The events between a driver and whoever serves its queues.
pub(crate) struct Events {
    /// The transport's doorbells.
    pub(crate) kicks: Vec<EventFd>,
    pub(crate) calls: Vec<Call>,
}

impl Events {
    pub(crate) fn new(queues: usize) -> Result<Self, RingError> {
        let calls = (0..queues).map(|_| Call::new()).collect::<io::Result<_>>();
        let calls = calls.map_err(|error| RingError::Event(error.kind()))?;
        Ok(Self { kicks: Vec::new(), calls })
    }

    /// Hands queue number `index` over, if it is not yet.
    pub(crate) fn hand_over(
        &self,
        index: u16,
        device: &mut impl Device,
        (ring, memory): (&mut Ring, &GuestMemory),
    ) -> Result<(), OffloadError> {
        let at = usize::from(index);
        let Some((kick, call)) = self.kicks.get(at).zip(self.calls.get(at)) else { return Ok(()) };
        if ring.offloaded {
            return Ok(());
        }
        let Some((queue, offload)) = ring.queue().zip(device.offload()) else { return Ok(()) };
        let queue = &queue.state;
        let given = OffloadedRing {
            memory: memory.clone(),
            size: queue.size(),
            descriptors: queue.desc_table(),
            driver: queue.avail_ring(),
            device: queue.used_ring(),
            next: queue.next_avail(),
            kick: kick.try_clone()?,
            call: call.try_clone()?,
        };
        offload.start(index, given)?;
        ring.offloaded = true;
        // Chains may have been offered before.
        signal(kick);
        Ok(())
    }
}

/// Takes queue number `index` back, if it is handed over.
pub(crate) fn take_back(index: u16, device: &mut impl Device, ring: &mut Ring) {
    if !ring.offloaded {
        return;
    }
    ring.offloaded = false;
    if let Some((offload, queue)) = device.offload().zip(ring.queue()) {
        let next = offload.stop(index);
        // Whoever stops has given back all that it took.
        queue.resume(next);
    }
}

/// So many events.
pub(crate) fn events(count: usize) -> Result<Vec<EventFd>, RingError> {
    let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
    let events = (0..count).map(|_| event()).collect::<io::Result<_>>();
    events.map_err(|error| RingError::Event(error.kind()))
}
