//! Where a ring goes on whose server died without a word.
//!
//! The next server takes the chains from the used ring's index on. That is right if the last one ended
//! them in their order. If it did not, and left no notes of what was in flight, some of those it would
//! take are done and others would never be. So what is in flight is followed from outside, and the
//! entries that are to be taken again are written anew, which no driver reads back.

use std::sync::atomic::Ordering;

use memory::{Bytes, GuestAddress};
use virtio::OffloadedRing;

/// Bytes before the entries of either ring (virtio 1.3 §2.7).
const HEADER: u64 = 4;
/// Bytes of an entry of the available ring, and of the used ring.
const ENTRY: u64 = 2;
const ELEMENT: u64 = 8;

/// The index from which the next server goes on, if what is in flight is noted elsewhere.
pub(crate) fn next(ring: &OffloadedRing) -> u16 {
    load(ring, ring.device + 2)
}

/// Whether a server can have stopped at index `next`: not before what it has used, and not after what
/// it was offered.
pub(crate) fn is_possible(ring: &OffloadedRing, next: u16) -> bool {
    let used = self::next(ring);
    let offered = load(ring, ring.driver + 2).wrapping_sub(used);
    next.wrapping_sub(used) <= offered.min(ring.size)
}

/// Whether all that was offered is used.
pub(crate) fn is_idle(ring: &OffloadedRing) -> bool {
    next(ring) == load(ring, ring.driver + 2)
}

/// A number in a ring, which lies in RAM.
fn load(ring: &OffloadedRing, at: u64) -> u16 {
    let loaded = ring.memory.load(GuestAddress(at), Ordering::Acquire);
    loaded.map(u16::from_le).unwrap_or(0)
}

/// What is in flight on one ring.
#[derive(Debug)]
pub(crate) struct Track {
    /// How often each chain was offered more than used, which is 1 if it is in flight and else 0, and at
    /// which index it was offered last.
    chains: Vec<(i32, u16)>,
    /// Up to where both rings were read.
    offered: u16,
    used: u16,
}

impl Track {
    /// Of `ring`, from index `next` on.
    pub(crate) fn new(ring: &OffloadedRing, next: u16) -> Self {
        Self { chains: vec![(0, 0); ring.size.into()], offered: next, used: self::next(ring) }
    }

    /// Reads what is new on both rings.
    pub(crate) fn follow(&mut self, ring: &OffloadedRing) {
        // First what was used: whatever it was, it had been offered before.
        let used = next(ring);
        let rings = Rings { ring, used, offered: load(ring, ring.driver + 2) };
        if !self.read(&rings) {
            self.guess(&rings);
        }
        (self.offered, self.used) = (rings.offered, rings.used);
    }

    /// False if more is new than the rings remember, or if they contradict what is known.
    fn read(&mut self, rings: &Rings<'_>) -> bool {
        let size = rings.ring.size;
        let offers = rings.offered.wrapping_sub(self.offered);
        let uses = rings.used.wrapping_sub(self.used);
        if offers > size || uses > size {
            return false;
        }
        let offers = (0..offers).map(|step| self.offered.wrapping_add(step));
        let uses = (0..uses).map(|step| self.used.wrapping_add(step));
        for index in offers.clone() {
            if let Some(chain) = self.chains.get_mut(usize::from(rings.offer(index))) {
                *chain = (chain.0 + 1, index);
            }
        }
        for index in uses.clone() {
            if let Some(chain) = self.chains.get_mut(usize::from(rings.use_of(index))) {
                chain.0 -= 1;
            }
        }
        // The rings go on meanwhile, perhaps over what was just read.
        let kept = next(rings.ring).wrapping_sub(self.used) <= size;
        let heads = offers.map(|index| rings.offer(index)).chain(uses.map(|i| rings.use_of(i)));
        let mut chains = heads.map(|head| self.chains.get(usize::from(head)));
        kept && chains.all(|chain| chain.is_some_and(|chain| (0..=1).contains(&chain.0)))
    }

    /// Starts anew with what the rings remember.
    fn guess(&mut self, rings: &Rings<'_>) {
        self.chains.fill((0, 0));
        for (head, back) in rings.in_flight() {
            if let Some(slot) = self.chains.get_mut(usize::from(head)) {
                *slot = (1, rings.offered.wrapping_sub(back + 1));
            }
        }
    }

    /// The index from which the next server goes on, with exactly what is in flight before it.
    pub(crate) fn mend(&mut self, ring: &OffloadedRing) -> u16 {
        self.follow(ring);
        let rings = Rings { ring, used: self.used, offered: self.offered };
        let count = self.offered.wrapping_sub(self.used);
        let chains = (0..ring.size).zip(&self.chains);
        let chains = chains.filter(|(_, (ahead, _))| *ahead > 0);
        let chains = chains.map(|(head, (_, index))| (rings.offered.wrapping_sub(*index), head));
        let mut heads: Vec<_> = chains.collect();
        heads.sort_unstable_by_key(|(back, _)| std::cmp::Reverse(*back));
        if heads.len() == usize::from(count) {
            for (step, (_, head)) in (0..).zip(heads) {
                rings.put(self.used.wrapping_add(step), head);
            }
        }
        self.used
    }
}

/// Both rings, as they are.
struct Rings<'a> {
    ring: &'a OffloadedRing,
    /// Index of the next entry of the used ring.
    used: u16,
    /// Index of the next entry of the available ring.
    offered: u16,
}

impl Rings<'_> {
    /// The descriptor at which entry number `index` of the available ring starts.
    fn offer(&self, index: u16) -> u16 {
        load(self.ring, self.place(index))
    }

    fn place(&self, index: u16) -> u64 {
        self.ring.driver + HEADER + ENTRY * u64::from(index % self.ring.size)
    }

    /// The same of the used ring.
    fn use_of(&self, index: u16) -> u16 {
        load(self.ring, self.ring.device + HEADER + ELEMENT * u64::from(index % self.ring.size))
    }

    fn put(&self, index: u16, head: u16) {
        if self.offer(index) != head {
            // It was read from there.
            let place = GuestAddress(self.place(index));
            drop(self.ring.memory.store(head.to_le(), place, Ordering::Release));
        }
    }

    /// The chains that were offered and not used, as far as the rings tell it by themselves, each with
    /// how many were offered after it.
    ///
    /// Both rings remember as many entries as they have. Counted from any index on, a chain was offered
    /// once more than used if it is in flight, else as often; but for those that were offered before
    /// that index and used after it, or the other way round, which are one off. So a chain that is once
    /// found two ahead is in flight, one that is found behind is not, and for the others most indices
    /// are right.
    fn in_flight(&self) -> Vec<(u16, u16)> {
        let recent = self.offered.wrapping_sub(self.used);
        if recent > self.ring.size {
            return Vec::new();
        }
        let mut chains = vec![Chain::default(); self.ring.size.into()];
        let steps = u32::from(self.ring.size - recent);
        for back in 0..recent {
            let head = self.offer(self.offered.wrapping_sub(back + 1));
            change(&mut chains, head, 0, |chain| chain.offer(back));
        }
        for (step, further) in (1..=steps).zip(1..) {
            let index = self.used.wrapping_sub(further);
            let back = recent + further - 1;
            change(&mut chains, self.offer(index), step, |chain| chain.offer(back));
            change(&mut chains, self.use_of(index), step, |chain| chain.ahead -= 1);
        }
        chains.iter_mut().for_each(|chain| chain.judge(steps + 1));
        let heads = (0..self.ring.size).zip(&chains);
        let mut heads: Vec<_> =
            heads.filter_map(|(head, chain)| Some((chain.verdict(), chain.back?, head))).collect();
        let count = usize::from(recent);
        if count < heads.len() {
            // No two were offered equally long ago, so which are the surest is never open.
            let key = |(verdict, back, _): &(_, u16, u16)| std::cmp::Reverse((*verdict, *back));
            heads.select_nth_unstable_by_key(count, key);
            heads.truncate(count);
        }
        heads.into_iter().map(|(_, back, head)| (head, back)).collect()
    }
}

/// What both rings say of a chain.
#[derive(Clone, Copy, Default)]
struct Chain {
    /// How often it was offered more than used, from the index looked at on.
    ahead: i32,
    most: i32,
    least: i32,
    /// From how many indices on it was ahead.
    votes: u32,
    /// The first step that is not judged.
    next: u32,
    /// How long ago it was offered last.
    back: Option<u16>,
}

impl Chain {
    /// Judges all steps before `step`, since whose beginning nothing has changed.
    fn judge(&mut self, step: u32) {
        let steps = step.saturating_sub(self.next);
        if steps == 0 {
            return;
        }
        self.next = step;
        self.most = self.most.max(self.ahead);
        self.least = self.least.min(self.ahead);
        self.votes += if self.ahead > 0 { steps } else { 0 };
    }

    /// It was offered, and `back` others since.
    fn offer(&mut self, back: u16) {
        self.ahead += 1;
        self.back.get_or_insert(back);
    }

    /// The larger, the surer it is that the chain is in flight.
    fn verdict(&self) -> (bool, bool, u32) {
        (self.most > 1, self.least >= 0, self.votes)
    }
}

/// Step number `step` changes chain `head`. What no driver says, no server has taken.
fn change(chains: &mut [Chain], head: u16, step: u32, change: impl FnOnce(&mut Chain)) {
    if let Some(chain) = chains.get_mut(usize::from(head)) {
        chain.judge(step);
        change(chain);
    }
}

#[cfg(test)]
mod tests;
