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
#[derive(Debug)]
pub(crate) struct Scratch {
    parts: Parts,
    /// The chains that are being served as one: first descriptor, room in bytes.
    chains: Vec<(u16, u32)>,
    /// Chains that are used and that the driver has not seen: first descriptor, bytes written.
    used: Vec<(u16, u32)>,
}

/// Used chains are shown to the driver in batches of about so many.
const BATCH: usize = 64;

impl Scratch {
    pub(crate) fn new(memory: GuestMemory) -> Self {
        Self { parts: Parts::new(memory), chains: Vec::new(), used: Vec::new() }
    }
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

/// What became of a wish for room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// There is as much.
    Enough,
    /// There are no more chains.
    Short,
    /// The last chain cannot be used.
    Malformed,
}

impl Turn<'_> {
    /// Serves about as many chains as the queue has entries, at most.
    pub(crate) fn run(
        mut self,
        device: &mut impl Device,
        ring: &mut Ring,
    ) -> Result<(Work, End), Broken> {
        let index = self.index;
        let broken = |source| Broken::Ring { index, source };
        let Some(queue) = ring.queue() else { return Ok((Work::default(), End::Empty)) };
        queue.state.disable_notification(&**self.memory).map_err(broken)?;
        let budget = queue.state.size();
        self.scratch.used.clear();
        let served = self.serve_up_to(budget, device, ring);
        // Whatever ended it: what was used is the driver's.
        let shown = self.show(ring);
        let (mut work, end) = served?;
        shown?;
        work.interrupt = work.chains > 0 && ring.wants_interrupt().map_err(broken)?;
        Ok((work, end))
    }

    fn serve_up_to(
        &mut self,
        budget: u16,
        device: &mut impl Device,
        ring: &mut Ring,
    ) -> Result<(Work, End), Broken> {
        let mut work = Work::default();
        for _ in 0..budget {
            match self.step(device, ring)? {
                Step::Used(chains) => work.chains = work.chains.saturating_add(chains),
                Step::Kept => work.kept += 1,
                Step::Stalled => return Ok((work, End::Stalled)),
                Step::Empty => {
                    self.show(ring)?;
                    // True means that a chain came while the driver was still told not to notify.
                    if !self.expect_more(ring)? {
                        return Ok((work, End::Empty));
                    }
                }
            }
        }
        Ok((work, End::Budget))
    }

    /// Has the driver notify of the next chain. True if there is one already.
    fn expect_more(&self, ring: &mut Ring) -> Result<bool, Broken> {
        let Some(queue) = ring.queue() else { return Ok(false) };
        let index = self.index;
        let more = queue.state.enable_notification(&**self.memory);
        more.map_err(|source| Broken::Ring { index, source })
    }

    fn step(&mut self, device: &mut impl Device, ring: &mut Ring) -> Result<Step, Broken> {
        self.scratch.parts.clear();
        self.scratch.chains.clear();
        match self.take(ring, 0)? {
            Taken::Enough => self.serve(device, ring),
            Taken::Malformed => self.give_up(ring),
            Taken::Short => Ok(Step::Empty),
        }
    }

    /// Takes chains to those that are being served, the next in any case, until there is room for
    /// `bytes`.
    fn take(&mut self, ring: &mut Ring, bytes: usize) -> Result<Taken, Broken> {
        let index = self.index;
        let Some((queue, in_flight)) = ring.in_use() else { return Ok(Taken::Short) };
        let Scratch { parts, chains, .. } = &mut *self.scratch;
        let size = queue.state.size();
        loop {
            let next = available::next(queue).map_err(|source| Broken::Ring { index, source })?;
            let Some(head) = next else { return Ok(Taken::Short) };
            if head >= size {
                return Err(Broken::Head { index, head, size });
            }
            if in_flight.holds(head) {
                return Err(Broken::Again { index, head });
            }
            let before = parts.room();
            let walked = parts.walk(Descriptors::new(queue, self.memory, head), size);
            let room = parts.room();
            chains.push((head, u32::try_from(room.saturating_sub(before)).unwrap_or(u32::MAX)));
            if let Err(malformed) = walked {
                log::trace!("queue {index}: chain {head} is malformed: {malformed:?}");
                return Ok(Taken::Malformed);
            }
            while parts.room() < bytes {
                let is_free = |head| !in_flight.holds(head);
                let next = available::next_room(queue, is_free);
                let Some((head, descriptor)) = next else { break };
                chains.push((head, descriptor.len));
                if parts.add(&descriptor).is_err() {
                    return Ok(Taken::Malformed);
                }
            }
            if parts.room() >= bytes {
                return Ok(Taken::Enough);
            }
        }
    }

    fn serve(&mut self, device: &mut impl Device, ring: &mut Ring) -> Result<Step, Broken> {
        let mut gathered = false;
        loop {
            let Scratch { parts, chains, .. } = &mut *self.scratch;
            let Some(&(head, _)) = chains.first() else { return Ok(Step::Empty) };
            let mut chain = Chain::new(head, parts, chains);
            chain.gathered = gathered;
            match device.serve(self.index, &mut chain) {
                Served::Used(len) => return self.give_back(ring, len),
                Served::Pending if chains.len() == 1 => {
                    ring.in_flight.keep(head, parts);
                    return Ok(Step::Kept);
                }
                Served::Pending => return self.give_up(ring),
                Served::Merge(bytes) => match self.merge(ring, bytes)? {
                    Taken::Enough => {}
                    Taken::Short => return Ok(self.put_back(ring)),
                    Taken::Malformed => return self.give_up(ring),
                },
                Served::Gather(bytes) if !gathered => {
                    gathered = true;
                    if !self.gather(ring, bytes)? {
                        return self.give_up(ring);
                    }
                }
                Served::Stall | Served::Gather(_) => return Ok(self.put_back(ring)),
            }
        }
    }

    /// Takes chains, one at least, until there is room for `bytes`. If there are not enough, the driver
    /// will notify.
    fn merge(&mut self, ring: &mut Ring, bytes: u32) -> Result<Taken, Broken> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        loop {
            match self.take(ring, bytes)? {
                Taken::Short if self.expect_more(ring)? => {}
                taken => return Ok(taken),
            }
        }
    }

    /// Takes chains until there is room for `bytes`, or no more. Whether all are well formed.
    fn gather(&mut self, ring: &mut Ring, bytes: u32) -> Result<bool, Broken> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(self.scratch.parts.room() >= bytes || self.take(ring, bytes)? != Taken::Malformed)
    }

    /// Gives the chains back to the driver that hold the first `len` bytes of their room, which were
    /// written; the first in any case. The others stay on the queue.
    fn give_back(&mut self, ring: &mut Ring, len: u32) -> Result<Step, Broken> {
        let Scratch { parts, chains, .. } = &*self.scratch;
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        let used = usize::from(Chain::new(0, parts, chains).chains_for(bytes));
        self.unpop(ring, self.scratch.chains.len().saturating_sub(used));
        self.retire(ring, used, len)
    }

    /// Gives all the chains back to the driver, nothing written.
    fn give_up(&mut self, ring: &mut Ring) -> Result<Step, Broken> {
        self.retire(ring, self.scratch.chains.len(), 0)
    }

    fn retire(&mut self, ring: &mut Ring, count: usize, len: u32) -> Result<Step, Broken> {
        let Scratch { chains, used, .. } = &mut *self.scratch;
        let mut rest = len;
        used.extend(chains.iter().take(count).map(|&(head, room)| {
            let written = room.min(rest);
            rest -= written;
            (head, written)
        }));
        if used.len() >= BATCH {
            self.show(ring)?;
        }
        Ok(Step::Used(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Shows the driver what is used.
    fn show(&mut self, ring: &mut Ring) -> Result<(), Broken> {
        let (index, used) = (self.index, &mut self.scratch.used);
        if used.is_empty() {
            return Ok(());
        }
        let Some(queue) = ring.queue() else { return Ok(()) };
        let published = used::publish(queue, used.drain(..));
        published.map_err(|source| Broken::Ring { index, source })
    }

    /// Leaves the last `count` of the chains on the queue, as if they had never been taken.
    fn unpop(&self, ring: &mut Ring, count: usize) {
        if let Some(queue) = ring.queue() {
            let count = u16::try_from(count).unwrap_or(u16::MAX);
            let next = queue.state.next_avail().wrapping_sub(count);
            queue.state.set_next_avail(next);
        }
    }

    /// Leaves all the chains on the queue.
    fn put_back(&mut self, ring: &mut Ring) -> Step {
        self.unpop(ring, self.scratch.chains.len());
        Step::Stalled
    }
}
