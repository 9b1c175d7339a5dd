//! One turn of one queue: the chains that are there, within a budget.

use memory::{Bytes, GuestAddress, GuestMemory};
use std::sync::atomic::Ordering;
use virtio_queue::{Queue, QueueOwnedT, QueueT};

use crate::{Chain, Device, Served, ring::Ring, walk::Parts};

/// The flag by which a driver without `EVENT_IDX` asks for no interrupts (virtio 1.3 §2.7.6).
const NO_INTERRUPT: u16 = 1;

/// One turn of queue number `index`.
pub(crate) struct Turn<'a> {
    pub(crate) index: u16,
    pub(crate) memory: &'a GuestMemory,
    pub(crate) parts: &'a mut Parts,
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The queue is empty, and its driver will notify.
    Empty,
    /// The queue may hold more, but others have waited long enough.
    Budget,
    /// The device does not want the next chain yet.
    Stalled,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) chains: u32,
    /// Whether the driver wants to know.
    pub(crate) interrupt: bool,
}

/// A ring that makes no sense: nothing on it can be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// See [`virtio_queue::Error`].
    #[error("queue {index} is broken: {source}")]
    Ring { index: u16, source: virtio_queue::Error },
    #[error("queue {index} offers chain {head}; its {size} descriptors start at 0")]
    Head { index: u16, head: u16, size: u16 },
}

impl Turn<'_> {
    /// Serves at most as many chains as the queue has entries.
    pub(crate) fn run(
        mut self,
        device: &mut impl Device,
        ring: &mut Ring,
    ) -> Result<(Work, End), Broken> {
        let Some(queue) = ring.queue() else { return Ok((Work::default(), End::Empty)) };
        let index = self.index;
        let broken = |source| Broken::Ring { index, source };
        queue.disable_notification(&**self.memory).map_err(broken)?;
        let mut chains = 0;
        let mut end = End::Budget;
        for _ in 0..queue.size() {
            match self.step(device, queue)? {
                Step::Used => chains += 1,
                Step::Stalled => {
                    end = End::Stalled;
                    break;
                }
                Step::Empty => {
                    // True means that a chain came while the driver was still told not to notify.
                    if !queue.enable_notification(&**self.memory).map_err(broken)? {
                        end = End::Empty;
                        break;
                    }
                }
            }
        }
        let interrupt = chains > 0 && wants_interrupt(queue, self.memory).map_err(broken)?;
        Ok((Work { chains, interrupt }, end))
    }

    fn step(&mut self, device: &mut impl Device, queue: &mut Queue) -> Result<Step, Broken> {
        let (index, size) = (self.index, queue.size());
        let broken = |source| Broken::Ring { index, source };
        let Some(chain) = queue.iter(&**self.memory).map_err(broken)?.next() else {
            return Ok(Step::Empty);
        };
        let head = chain.head_index();
        if head >= size {
            return Err(Broken::Head { index, head, size });
        }
        let used = match self.parts.walk(chain, self.memory, size) {
            Err(malformed) => {
                log::trace!("queue {index}: chain {head} is malformed: {malformed:?}");
                0
            }
            Ok(()) => {
                let mut chain = Chain::new(head, self.memory, self.parts);
                let room = u32::try_from(chain.writer.available_bytes()).unwrap_or(u32::MAX);
                match device.serve(index, &mut chain) {
                    Served::Used(len) => len.min(room),
                    Served::Stall => {
                        queue.go_to_previous_position();
                        return Ok(Step::Stalled);
                    }
                }
            }
        };
        queue.add_used(&**self.memory, head, used).map_err(broken)?;
        Ok(Step::Used)
    }
}

enum Step {
    Used,
    Stalled,
    Empty,
}

/// Whether the driver wants to be interrupted for what was used since it was last asked. Of the two
/// ways to say so, virtio-queue knows the event index only.
fn wants_interrupt(queue: &mut Queue, memory: &GuestMemory) -> Result<bool, virtio_queue::Error> {
    let wants = queue.needs_notification(&**memory)?;
    if queue.event_idx_enabled() {
        return Ok(wants);
    }
    let flags: u16 = memory
        .load(GuestAddress(queue.avail_ring()), Ordering::Relaxed)
        .map_err(virtio_queue::Error::GuestMemory)?;
    Ok(u16::from_le(flags) & NO_INTERRUPT == 0)
}
