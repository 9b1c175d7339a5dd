//! One turn of one queue: the chains that are there, within a budget.

use memory::GuestMemory;
use virtio_queue::QueueT;

use crate::{
    Chain, Device, Served,
    available::{self, Descriptors},
    ring::Ring,
    used,
    walk::Parts,
};

/// What turns keep between them, so that they allocate nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    parts: Parts,
    /// The chains that are being served as one: first descriptor, room in bytes.
    chains: Vec<(u16, u32)>,
}

/// One turn of queue number `index`.
pub(crate) struct Turn<'a> {
    pub(crate) index: u16,
    pub(crate) memory: &'a GuestMemory,
    pub(crate) scratch: &'a mut Scratch,
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The queue is empty, and its driver will notify.
    Empty,
    /// The queue may hold more, but others have waited long enough.
    Budget,
    /// The device does not want the next chain yet, or wants more at once than there are. In the
    /// second case the driver will notify.
    Stalled,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// How many chains were used.
    pub(crate) chains: u32,
    /// How many the device has kept.
    pub(crate) kept: u32,
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
    #[error("queue {index} offers chain {head} again, which the device still has")]
    Again { index: u16, head: u16 },
}

/// What became of the chain or the chains that were next.
enum Step {
    Used(u32),
    Kept,
    Stalled,
    Empty,
}

/// What became of a wish for more room.
enum Merged {
    Enough,
    Short,
    Malformed,
}

impl Turn<'_> {
    /// Serves about as many chains as the queue has entries, at most.
    pub(crate) fn run(
        mut self,
        device: &mut impl Device,
        ring: &mut Ring,
    ) -> Result<(Work, End), Broken> {
        let mut work = Work::default();
        let Some(queue) = ring.queue() else { return Ok((work, End::Empty)) };
        let index = self.index;
        let broken = |source| Broken::Ring { index, source };
        queue.disable_notification(&**self.memory).map_err(broken)?;
        let mut end = End::Budget;
        for _ in 0..queue.size() {
            match self.step(device, ring)? {
                Step::Used(chains) => work.chains = work.chains.saturating_add(chains),
                Step::Kept => work.kept += 1,
                Step::Stalled => {
                    end = End::Stalled;
                    break;
                }
                Step::Empty => {
                    // True means that a chain came while the driver was still told not to notify.
                    if !self.expect_more(ring)? {
                        end = End::Empty;
                        break;
                    }
                }
            }
        }
        work.interrupt = work.chains > 0 && ring.wants_interrupt(self.memory).map_err(broken)?;
        Ok((work, end))
    }

    /// Has the driver notify of the next chain. True if there is one already.
    fn expect_more(&self, ring: &mut Ring) -> Result<bool, Broken> {
        let Some(queue) = ring.queue() else { return Ok(false) };
        let index = self.index;
        let more = queue.enable_notification(&**self.memory);
        more.map_err(|source| Broken::Ring { index, source })
    }

    fn step(&mut self, device: &mut impl Device, ring: &mut Ring) -> Result<Step, Broken> {
        self.scratch.parts.clear();
        self.scratch.chains.clear();
        match self.pop(ring)? {
            None => Ok(Step::Empty),
            Some(false) => self.give_back(ring, 0),
            Some(true) => self.serve(device, ring),
        }
    }

    /// Takes the next chain to those that are being served. Whether there was one, and whether it is
    /// well formed.
    fn pop(&mut self, ring: &mut Ring) -> Result<Option<bool>, Broken> {
        let index = self.index;
        let Some(queue) = ring.queue() else { return Ok(None) };
        let size = queue.size();
        let next = available::next(queue, self.memory);
        let next = next.map_err(|source| Broken::Ring { index, source })?;
        let Some(head) = next else { return Ok(None) };
        let chain = Descriptors::new(queue, self.memory, head);
        if head >= size {
            return Err(Broken::Head { index, head, size });
        }
        if ring.in_flight.holds(head) {
            return Err(Broken::Again { index, head });
        }
        let Scratch { parts, chains } = &mut *self.scratch;
        let before = parts.room();
        let walked = parts.walk(chain, self.memory, size);
        chains.push((head, parts.room().saturating_sub(before)));
        if let Err(malformed) = walked {
            log::trace!("queue {index}: chain {head} is malformed: {malformed:?}");
        }
        Ok(Some(walked.is_ok()))
    }

    fn serve(&mut self, device: &mut impl Device, ring: &mut Ring) -> Result<Step, Broken> {
        loop {
            let Scratch { parts, chains } = &mut *self.scratch;
            let Some(&(head, _)) = chains.first() else { return Ok(Step::Empty) };
            let mut chain = Chain::new(head, self.memory, parts);
            chain.count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
            match device.serve(self.index, &mut chain) {
                Served::Used(len) => return self.give_back(ring, len),
                Served::Pending if chains.len() == 1 => {
                    ring.in_flight.keep(head, parts);
                    return Ok(Step::Kept);
                }
                Served::Pending => return self.give_back(ring, 0),
                Served::Stall => return Ok(self.put_back(ring)),
                Served::Merge(bytes) => match self.merge(ring, bytes)? {
                    Merged::Enough => {}
                    Merged::Short => return Ok(self.put_back(ring)),
                    Merged::Malformed => return self.give_back(ring, 0),
                },
            }
        }
    }

    /// Takes chains, one at least, until there is room for `bytes`.
    fn merge(&mut self, ring: &mut Ring, bytes: u32) -> Result<Merged, Broken> {
        loop {
            match self.pop(ring)? {
                Some(true) if self.scratch.parts.room() < bytes => {}
                Some(true) => return Ok(Merged::Enough),
                Some(false) => return Ok(Merged::Malformed),
                None if self.expect_more(ring)? => {}
                None => return Ok(Merged::Short),
            }
        }
    }

    /// Gives the chains back to the driver, the first `len` bytes of their room written.
    fn give_back(&mut self, ring: &mut Ring, len: u32) -> Result<Step, Broken> {
        let index = self.index;
        let Some(queue) = ring.queue() else { return Ok(Step::Empty) };
        let mut rest = len;
        let chains = self.scratch.chains.iter().map(|&(head, room)| {
            let written = room.min(rest);
            rest -= written;
            (head, written)
        });
        let used = used::publish(queue, self.memory, chains);
        used.map_err(|source| Broken::Ring { index, source })?;
        Ok(Step::Used(u32::try_from(self.scratch.chains.len()).unwrap_or(u32::MAX)))
    }

    /// Leaves the chains on the queue, as if they had never been taken.
    fn put_back(&mut self, ring: &mut Ring) -> Step {
        if let Some(queue) = ring.queue() {
            let taken = u16::try_from(self.scratch.chains.len()).unwrap_or(u16::MAX);
            queue.set_next_avail(queue.next_avail().wrapping_sub(taken));
        }
        Step::Stalled
    }
}
