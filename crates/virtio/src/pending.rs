//! How a device ends the chains that it has kept.

use std::fmt;

use crate::{Chain, ring::Ring, turn::Broken, used};

/// The chains that a device has answered with [`Served::Pending`](crate::Served::Pending), while it
/// may end some.
pub struct Pending<'a> {
    rings: &'a mut [Ring],
    /// Whether the driver is to be told; not after it has reset the device.
    running: bool,
    broken: Option<Broken>,
}

impl<'a> Pending<'a> {
    pub(crate) fn new(rings: &'a mut [Ring], running: bool) -> Self {
        Self { rings, running, broken: None }
    }

    /// How many chains are pending, in all queues.
    pub fn count(&self) -> usize {
        self.rings.iter().map(Ring::pending).sum()
    }

    /// Ends the chain whose first descriptor is `head` of queue number `queue`: the driver gets it
    /// back. `finish` has the chain once more, from its start, and says how many bytes were written,
    /// as for [`Served::Used`](crate::Served::Used). False, without a call, if no such chain is
    /// pending.
    pub fn finish(
        &mut self,
        queue: u16,
        head: u16,
        finish: impl FnOnce(&mut Chain<'_>) -> u32,
    ) -> bool {
        let Some(ring) = self.rings.get_mut(usize::from(queue)) else { return false };
        let Some(parts) = ring.in_flight.take(head) else { return false };
        let mut chain = Chain::new(head, &parts, &[]);
        let room = u32::try_from(chain.writer.available_bytes()).unwrap_or(u32::MAX);
        let len = finish(&mut chain).min(room);
        ring.in_flight.recycle(parts);
        if self.running
            && let Some(into) = ring.queue()
        {
            let used = used::publish(into, std::iter::once((head, len)));
            ring.untold = true;
            if let Err(source) = used {
                self.broken = Some(Broken::Ring { index: queue, source });
            }
        }
        true
    }

    pub(crate) fn into_broken(self) -> Option<Broken> {
        self.broken
    }
}

impl fmt::Debug for Pending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("count", &self.count()).finish_non_exhaustive()
    }
}
