//! What every device must do, as test bodies that a device's own tests call.
//!
//! Attach one or several devices to a [`FakeWiring`], then call [`bus_device`], or the bodies one by
//! one. A body panics with a message that says where.

use std::sync::{Arc, Mutex, PoisonError};

use bus::{Bus, Buses, Space};
use snapshot::Section;

use crate::{Component, FakeWiring};

/// The widths of accesses that a guest can make, and one that it cannot.
const WIDTHS: [usize; 5] = [1, 2, 4, 8, 3];
/// Bytes at the edges: nothing, everything, the sign bit, the largest below it, and a mixture.
const VALUES: [u8; 6] = [0x00, 0xff, 0x80, 0x7f, 0x01, 0x5a];
/// Offsets tried at either end of a range.
const REACH: u64 = 4096;
/// How many random accesses a round makes.
const ACCESSES: usize = 1000;
/// How many rounds of random accesses a device must come back from.
const ROUNDS: u64 = 64;

/// Every body in order: accesses, snapshots in between, garbage. The devices must have been attached to `wiring`
/// and not yet frozen. Their clocks must stand still, since what is saved twice must be equal.
///
/// # Panics
/// A device does not conform.
#[expect(clippy::panic, reason = "a test body reports by panicking")]
pub fn bus_device(wiring: &mut FakeWiring) {
    let buses = match wiring.freeze() {
        Ok(buses) => buses,
        Err(error) => panic!("the device's claims cannot be frozen: {error}"),
    };
    takes_every_access(&buses);
    comes_back_from_a_snapshot(wiring);
    refuses_garbage(wiring);
    for seed in 1..=ROUNDS {
        takes_random_accesses(&buses, seed);
        comes_back_from_a_snapshot(wiring);
    }
}

/// Reads and writes every offset of every claim, and across both its ends, at every width, with
/// values at the edges. Nothing may panic or hang; the actions asked for are ignored.
pub fn takes_every_access(buses: &Buses) {
    every_access(&buses.pio);
    every_access(&buses.mmio);
}

fn every_access<S: Space>(bus: &Bus<S>) {
    for range in bus.ranges() {
        let (first, last) = (range.first().into(), range.last().into());
        let start = first.saturating_sub(7)..=last.min(first.saturating_add(REACH));
        let end = last.saturating_sub(REACH).max(first.saturating_add(REACH))..=last;
        for at in start.chain(end).filter_map(|at| S::Addr::try_from(at).ok()) {
            for width in WIDTHS {
                access(bus, at, width);
            }
        }
    }
}

/// Makes [`ACCESSES`] reads and writes of random widths and values at random claimed addresses, the
/// same ones for the same `seed`. Nothing may panic or hang; the actions asked for are ignored.
pub fn takes_random_accesses(buses: &Buses, seed: u64) {
    random_accesses(&buses.pio, seed);
    random_accesses(&buses.mmio, seed);
}

fn random_accesses<S: Space>(bus: &Bus<S>, seed: u64) {
    let ranges: Vec<_> = bus.ranges().collect();
    let mut random = Random(seed);
    for _ in 0..ACCESSES {
        let Some(range) = ranges.get(random.below(ranges.len())) else { return };
        let len = usize::try_from(range.len_minus_one()).unwrap_or(usize::MAX).saturating_add(1);
        let offset = u64::try_from(random.below(len)).unwrap_or(0);
        let Ok(at) = S::Addr::try_from(range.first().into().saturating_add(offset)) else { return };
        let width = WIDTHS.get(random.below(WIDTHS.len())).copied().unwrap_or(1);
        let mut data = random.next().to_le_bytes();
        let Some(data) = data.get_mut(..width) else { return };
        if random.below(4) == 0 {
            bus.read(at, data);
        } else {
            bus.write(at, data);
        }
    }
}

/// Marsaglia's xorshift: repeatable, and good enough to choose accesses.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }
}

fn access<S: Space>(bus: &Bus<S>, at: S::Addr, width: usize) {
    let mut data = [0; 8];
    let Some(data) = data.get_mut(..width) else { return };
    for value in VALUES {
        bus.read(at, data);
        data.fill(value);
        bus.write(at, data);
        data.reverse();
        if let Some(byte) = data.first_mut() {
            *byte = !value;
        }
        bus.write(at, data);
    }
    bus.read(at, data);
}

/// Saves each component, restores it from that and saves it again: the two sections are equal.
///
/// # Panics
/// They are not, or a component cannot be saved or does not take its own state back.
#[expect(clippy::panic, reason = "a test body reports by panicking")]
pub fn comes_back_from_a_snapshot(wiring: &FakeWiring) {
    let before = sections(wiring);
    assert!(!before.is_empty(), "nothing is saved; a device without state saves an empty section");
    for (component, section) in wiring.components.iter().zip(&before) {
        let mut component = component.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = component.restore_section(section.clone()) {
            panic!("`{}` does not take its own state back: {error}", section.kind);
        }
    }
    assert_eq!(sections(wiring), before, "a restored component saves something else");
}

/// Offers each component sections that are not its own or make no sense. Each is refused, and
/// changes nothing.
///
/// # Panics
/// A component takes one, or changes by refusing.
pub fn refuses_garbage(wiring: &FakeWiring) {
    let before = sections(wiring);
    for (component, good) in wiring.components.iter().zip(&before) {
        let mut component = component.lock().unwrap_or_else(PoisonError::into_inner);
        for bad in garbage(good) {
            let refused = component.restore_section(bad.clone()).is_err();
            assert!(refused, "`{}` takes {bad:?}", good.kind);
        }
    }
    assert_eq!(sections(wiring), before, "a component changes by refusing a state");
}

fn garbage(good: &Section) -> Vec<Section> {
    let state = |state: snapshot::Value| Section { state, ..good.clone() };
    let mut bad = vec![
        Section { kind: String::new(), ..good.clone() },
        Section { kind: format!("{}x", good.kind), ..good.clone() },
        Section { version: 0, ..good.clone() },
        Section { version: u32::MAX, ..good.clone() },
        state(snapshot::Value::Null),
        state("garbage".into()),
        state(u64::MAX.into()),
    ];
    if let snapshot::Value::Object(fields) = &good.state {
        let mut extra = fields.clone();
        extra.insert("a field of nobody".to_owned(), 1.into());
        bad.push(state(extra.into()));
        for name in fields.keys() {
            let mut wrong = fields.clone();
            wrong.insert(name.clone(), "garbage".into());
            bad.push(state(wrong.into()));
        }
    }
    bad
}

#[expect(clippy::panic, reason = "a test body reports by panicking")]
fn sections(wiring: &FakeWiring) -> Vec<Section> {
    let save = |component: &Arc<Mutex<dyn Component>>| {
        let mut component = component.lock().unwrap_or_else(PoisonError::into_inner);
        match component.save_section() {
            Ok(section) => section,
            Err(error) => panic!("a component cannot be saved: {error}"),
        }
    };
    wiring.components.iter().map(save).collect()
}

#[cfg(test)]
mod tests {
    use bus::{AccessError, Action, MutBusDevice, Pio, Range};
    use snapshot::{RestoreError, SaveError};

    use super::*;
    use crate::Wiring;

    /// What is wrong with a device.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        PanicsAtAWidth,
        ForgetsItsState,
        TakesGarbage,
        ChangesByRefusing,
    }

    struct Latch {
        fault: Fault,
        value: u8,
    }

    impl MutBusDevice for Latch {
        fn read(&mut self, _: u64, data: &mut [u8]) -> Result<(), AccessError> {
            data.fill(self.value);
            Ok(())
        }

        fn write(&mut self, _: u64, data: &[u8]) -> Result<Action, AccessError> {
            assert!(self.fault != Fault::PanicsAtAWidth || data.len() != 2, "never two bytes");
            self.value = data[0];
            Ok(Action::Continue)
        }
    }

    impl Component for Latch {
        fn save_section(&mut self) -> Result<Section, SaveError> {
            let state = snapshot::Value::from(self.value);
            Ok(Section { kind: "test.latch".to_owned(), version: 1, state })
        }

        fn restore_section(&mut self, section: Section) -> Result<(), RestoreError> {
            let value = section.state.as_u64().and_then(|value| u8::try_from(value).ok());
            let good = section.kind == "test.latch" && section.version == 1;
            match value.filter(|_| good) {
                Some(_) if self.fault == Fault::ForgetsItsState => self.value = 0,
                Some(value) => self.value = value,
                None if self.fault == Fault::TakesGarbage => {}
                None => {
                    if self.fault == Fault::ChangesByRefusing {
                        self.value = self.value.wrapping_add(1);
                    }
                    return Err(RestoreError::Missing(section.kind));
                }
            }
            Ok(())
        }
    }

    fn check(fault: Fault) {
        let mut wiring = FakeWiring::new().unwrap();
        let latch = Arc::new(Mutex::new(Latch { fault, value: 0 }));
        wiring.pio(Range::<Pio>::new(0x510, 4).unwrap(), latch.clone());
        wiring.persist(latch);
        bus_device(&mut wiring);
    }

    #[test]
    fn a_device_without_a_fault_conforms() {
        check(Fault::None);
    }

    #[test]
    #[should_panic(expected = "never two bytes")]
    fn a_device_that_panics_at_a_width_is_found() {
        check(Fault::PanicsAtAWidth);
    }

    #[test]
    #[should_panic(expected = "saves something else")]
    fn a_device_that_forgets_its_state_is_found() {
        check(Fault::ForgetsItsState);
    }

    #[test]
    #[should_panic(expected = "`test.latch` takes")]
    fn a_device_that_takes_garbage_is_found() {
        check(Fault::TakesGarbage);
    }

    #[test]
    #[should_panic(expected = "changes by refusing")]
    fn a_device_that_changes_by_refusing_is_found() {
        check(Fault::ChangesByRefusing);
    }
}
