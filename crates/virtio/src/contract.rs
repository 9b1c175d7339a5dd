//! What a virtio device is to this crate.

use std::os::fd::RawFd;

use device::Persist;

use crate::{Chain, Offload, Pending};

/// A virtio device: it serves one chain of buffers after the other, and knows neither rings nor
/// registers nor interrupts.
///
/// All calls come under one lock, from the I/O thread (`serve`) and from vCPU threads (`config`,
/// `write_config`, `negotiated`, `reset`), so none may block for long.
///
/// [`Persist`] is about the device's own state only; queues and negotiation are the worker's.
pub trait Device: Persist + Send + 'static {
    /// The device type (virtio 1.3 §5): 1 is a network card, 2 a block device.
    const ID: u32;

    /// Whether [`complete`](Self::complete) is called whenever a [source](Self::sources) becomes ready,
    /// even if nothing is pending: for a device with work that no request asks for.
    const ATTENTIVE: bool = false;

    /// The features that the device offers, of the bits that a device type may define (0 to 23 and
    /// 50 up). Read once, when the device is attached.
    fn features(&self) -> u64 {
        0
    }

    /// The maximum size of each queue, each a power of two up to 32768. Read once, when the device
    /// is attached.
    fn queues(&self) -> &[u16];

    /// The device's configuration space, as the driver reads it now. Its length never changes.
    ///
    /// A change made in any call but [`write_config`](Self::write_config) and
    /// [`reset`](Self::reset) is announced to the driver by the worker.
    fn config(&self) -> &[u8] {
        &[]
    }

    /// The driver writes `data` to the configuration space at `offset`; the whole of it lies inside.
    fn write_config(&mut self, _offset: usize, _data: &[u8]) {}

    /// The driver has accepted `features`: of those offered, and of the queues'. Also called after
    /// a restore, when the device has its own state back, with 0 if nothing had been accepted.
    fn negotiated(&mut self, _features: u64) {}

    /// The driver starts over: back to the state of a device that no driver has touched.
    fn reset(&mut self) {}

    /// Serves one chain of queue number `queue`. The chain is well formed (every buffer in RAM,
    /// what the driver wrote before what it wants to read); what is in it is the guest's, and
    /// anything.
    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served;

    /// Ends chains that were left [pending](Served::Pending) and are done. Called after every turn of
    /// a queue that left some, which makes it the place to start what was taken, and when a
    /// [source](Self::sources) becomes ready while some are pending (or [any time](Self::ATTENTIVE)).
    ///
    /// Before the device is reset, a queue taken away or the state saved, the worker waits until
    /// none is pending, on the sources, however long the host takes.
    fn complete(&mut self, _pending: &mut Pending<'_>) {}

    /// File descriptors whose becoming ready (readable or writable, edge-triggered) makes stalled
    /// queues worth another try. Read once, when the I/O thread takes the device; they stay open
    /// as long as the device lives.
    fn sources(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// Whoever has the queues served elsewhere, for a device that does not serve them itself: the
    /// same answer every time. [`serve`](Self::serve) and [`complete`](Self::complete) are then never
    /// called, and [`features`](Self::features) must say which of
    /// [`INDIRECT_DESC`](crate::feature::INDIRECT_DESC) and
    /// [`EVENT_IDX`](crate::feature::EVENT_IDX) can be offered.
    fn offload(&mut self) -> Option<&mut dyn Offload> {
        None
    }
}

/// What became of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// Done: the driver gets it back, with this many bytes written from the start of its writable
    /// part on. Of several chains only those come back that hold these bytes, and the first one.
    Used(u32),
    /// Not now: the chain stays the first of its queue and is served again, from its start, when a
    /// [source](Device::sources) becomes ready, another queue has made progress or a
    /// [`Handle`](crate::Handle) has touched the device; perhaps also in between.
    Stall,
    /// Kept: the worker holds the chain until the device [completes](Device::complete) it. Not for a
    /// chain that was merged.
    Pending,
    /// Too small: the chain is served again, from its start, as soon as it and the chains after it in
    /// its queue have room for this many bytes together; until then, and if the driver offers no
    /// more, it is as with [`Stall`](Self::Stall). Those that are used come back to the driver at once
    /// (virtio 1.3 §5.1.6.3.2: merged receive buffers).
    Merge(u32),
    /// Perhaps too small: the chain is served again now, with so many of those after it that there is
    /// room for this many bytes, or with all that there are. To ask once more is to
    /// [`Stall`](Self::Stall).
    Gather(u32),
}
