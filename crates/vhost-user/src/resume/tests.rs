use device::{EventFd, FakeWiring, Wiring};
use virtio::Call;

use super::*;

const SIZE: u16 = 64;
const DRIVER: u64 = 0x2000;
const DEVICE: u64 = 0x3000;

/// A ring that a driver and a server share, and what each of them knows.
struct Model {
    ring: OffloadedRing,
    offered: u16,
    used: u16,
    free: Vec<u16>,
    in_flight: Vec<u16>,
    random: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let ring = OffloadedRing {
            memory: FakeWiring::new().unwrap().memory(),
            size: SIZE,
            descriptors: 0x1000,
            driver: DRIVER,
            device: DEVICE,
            next: 0,
            kick: EventFd::new(0).unwrap(),
            call: Call::new().unwrap(),
        };
        let free = (0..SIZE).rev().collect();
        Self { ring, offered: 0, used: 0, free, in_flight: Vec::new(), random: seed | 1 }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap() % end.max(1)
    }

    fn put(&self, at: u64, value: u16) {
        self.ring.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    /// The driver offers the chain that it has freed last, as Linux does.
    fn offer(&mut self) {
        let Some(head) = self.free.pop() else { return };
        self.put(DRIVER + 4 + 2 * u64::from(self.offered % SIZE), head);
        self.offered = self.offered.wrapping_add(1);
        self.put(DRIVER + 2, self.offered);
        self.in_flight.push(head);
    }

    /// The server ends the chain that has waited for `place` others.
    fn end(&mut self, place: usize) {
        if place >= self.in_flight.len() {
            return;
        }
        let head = self.in_flight.remove(place);
        self.put(DEVICE + 4 + 8 * u64::from(self.used % SIZE), head);
        self.used = self.used.wrapping_add(1);
        self.put(DEVICE + 2, self.used);
        self.free.push(head);
    }

    /// What a server takes that goes on at `next`.
    fn taken(&self, next: u16) -> Vec<u16> {
        let count = self.offered.wrapping_sub(next);
        let slot = |index: u16| DRIVER + 4 + 2 * u64::from(next.wrapping_add(index) % SIZE);
        (0..count).map(|index| load(&self.ring, slot(index))).collect()
    }
}

/// Requests that are ended in any order, the last of which `look`s at the ring now and then.
fn busy(seed: u64, track: &mut Track, every: usize) -> Model {
    let mut model = Model::new(seed * 0x1234_5677);
    let steps = 50 + model.below(1000);
    for step in 0..steps {
        let depth = 1 + model.below(8);
        while model.in_flight.len() < depth {
            model.offer();
        }
        let place = model.below(depth);
        model.end(place);
        if step % every == 0 {
            track.follow(&model.ring);
        }
    }
    model
}

fn track() -> Track {
    Track::new(&Model::new(1).ring, 0)
}

#[test]
fn a_ring_whose_chains_ended_in_order_is_left_as_it_is() {
    let mut model = Model::new(1);
    for _ in 0..200 {
        (0..5).for_each(|_| model.offer());
        (0..4).for_each(|_| model.end(0));
    }
    let before = model.taken(next(&model.ring));
    assert_eq!(track().mend(&model.ring), model.used);
    assert_eq!(model.taken(model.used), before);
    assert_eq!(before, model.in_flight);
}

#[test]
fn a_server_stops_between_what_it_used_and_what_it_was_offered() {
    let model = Model::new(1);
    for (used, offered) in [(10_u16, 15_u16), (u16::MAX - 2, 2)] {
        model.put(DEVICE + 2, used);
        model.put(DRIVER + 2, offered);
        let possible = (0..=u16::MAX).filter(|next| is_possible(&model.ring, *next));
        let mut expected: Vec<_> = (0..=5).map(|step| used.wrapping_add(step)).collect();
        expected.sort_unstable();
        assert_eq!(possible.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn chains_that_were_overtaken_are_taken_again_and_no_others() {
    for seed in 1..200 {
        for every in [1, 7, 50] {
            let mut track = track();
            let model = busy(seed, &mut track, every);
            assert_eq!(track.mend(&model.ring), model.used);
            assert_eq!(model.taken(model.used), model.in_flight, "seed {seed}, {every}");
        }
    }
}

#[test]
fn a_ring_that_was_not_followed_is_mostly_understood() {
    let understood = (1..400).filter(|seed| {
        let model = busy(*seed, &mut track(), usize::MAX);
        track().mend(&model.ring);
        model.taken(model.used) == model.in_flight
    });
    let count = understood.count();
    assert!(count > 350, "{count} of 399");
}

#[test]
fn a_chain_that_waits_while_all_others_come_and_go_is_taken_again() {
    let mut model = Model::new(7);
    let mut track = track();
    (0..30).for_each(|_| model.offer());
    for _ in 0..500 {
        model.offer();
        model.end(5);
        track.follow(&model.ring);
    }
    track.mend(&model.ring);
    assert_eq!(model.taken(model.used), model.in_flight);
}

#[test]
fn a_ring_that_makes_no_sense_is_left_as_it_is() {
    let model = Model::new(1);
    model.put(DRIVER + 2, 500);
    (0..u64::from(SIZE)).for_each(|slot| model.put(DRIVER + 4 + 2 * slot, u16::MAX));
    assert_eq!(track().mend(&model.ring), 0);
    model.put(DRIVER + 2, 10);
    assert_eq!(track().mend(&model.ring), 0);
    assert_eq!(load(&model.ring, DRIVER + 4), u16::MAX);
}

/// What was said of the chains by looking at all of them at every index: the definition.
fn plainly(rings: &Rings<'_>) -> Vec<(u16, u16)> {
    #[derive(Clone, Default)]
    struct Chain {
        ahead: i32,
        most: i32,
        least: i32,
        votes: u32,
        back: Option<u16>,
    }
    let judge = |chains: &mut Vec<Chain>| {
        for chain in chains {
            chain.most = chain.most.max(chain.ahead);
            chain.least = chain.least.min(chain.ahead);
            chain.votes += u32::from(chain.ahead > 0);
        }
    };
    let offer = |chains: &mut Vec<Chain>, head: u16, back: u16| {
        if let Some(chain) = chains.get_mut(usize::from(head)) {
            chain.ahead += 1;
            chain.back.get_or_insert(back);
        }
    };
    let recent = rings.offered.wrapping_sub(rings.used);
    if recent > rings.ring.size {
        return Vec::new();
    }
    let mut chains = vec![Chain::default(); rings.ring.size.into()];
    for back in 0..recent {
        offer(&mut chains, rings.offer(rings.offered.wrapping_sub(back + 1)), back);
    }
    judge(&mut chains);
    for further in 1..=rings.ring.size - recent {
        let index = rings.used.wrapping_sub(further);
        offer(&mut chains, rings.offer(index), recent + further - 1);
        if let Some(chain) = chains.get_mut(usize::from(rings.use_of(index))) {
            chain.ahead -= 1;
        }
        judge(&mut chains);
    }
    let mut heads: Vec<_> = (0..)
        .zip(&chains)
        .filter_map(|(head, chain)| {
            let verdict = (chain.most > 1, chain.least >= 0, chain.votes);
            Some((verdict, chain.back?, head))
        })
        .collect();
    heads.sort_unstable_by_key(|(verdict, back, _)| std::cmp::Reverse((*verdict, *back)));
    heads.truncate(recent.into());
    heads.into_iter().map(|(_, back, head)| (head, back)).collect()
}

fn agree(model: &Model, what: &str) {
    let ring = &model.ring;
    let rings = Rings { ring, used: next(ring), offered: load(ring, ring.driver + 2) };
    let (mut found, mut expected) = (rings.in_flight(), plainly(&rings));
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{what}");
}

#[test]
fn rings_of_a_driver_are_understood_as_by_looking_at_every_chain() {
    for seed in 1..500 {
        agree(&busy(seed, &mut track(), usize::MAX), &format!("seed {seed}"));
    }
}

#[test]
fn rings_full_of_anything_are_understood_as_by_looking_at_every_chain() {
    for seed in 1..2000 {
        let mut model = Model::new(seed * 0x1234_5677);
        // Often the same few numbers, sometimes none that a chain has.
        let range = [4, 16, usize::from(SIZE), 2 * usize::from(SIZE)][model.below(4)];
        let number = |model: &mut Model| u16::try_from(model.below(range)).unwrap();
        for slot in 0..u64::from(SIZE) {
            let (offer, used) = (number(&mut model), number(&mut model));
            model.put(DRIVER + 4 + 2 * slot, offer);
            model.put(DEVICE + 4 + 8 * slot, used);
        }
        let used = u16::try_from(model.below(1 << 16)).unwrap();
        let recent = u16::try_from(model.below(usize::from(SIZE) + 3)).unwrap();
        model.put(DEVICE + 2, used);
        model.put(DRIVER + 2, used.wrapping_add(recent));
        agree(&model, &format!("seed {seed}"));
    }
}
