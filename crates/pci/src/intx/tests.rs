use std::{
    sync::{Arc, atomic::Ordering},
    thread,
};

use device::{Bdf, Component, Intx, MsixLayout};

use crate::{
    lock,
    testing::{TestBus, TestFunction},
};

const MEMORY: u32 = 0b010;
const DISABLE: u32 = 1 << 10;
/// Of the dword of command and status.
const STATUS: u32 = 1 << 19;

/// A function with a pin, and MSI-X.
fn function(intx: &Intx) -> TestFunction {
    let msix = MsixLayout { vectors: 1, bar: 0, table: 0, pba: 0x800 };
    let intx = Some(intx.clone());
    TestFunction { msix: Some(msix), intx, ..TestFunction::with_memory(1, 0x1000) }
}

fn insert(bus: &TestBus) -> (u8, Intx) {
    let intx = Intx::new();
    let (device, _) = bus.insert(function(&intx));
    (device, intx)
}

/// What the host was told since this was last asked.
fn told(bus: &TestBus) -> Vec<(u32, bool)> {
    std::mem::take(&mut lock(&bus.host.levels))
}

fn status(bus: &TestBus, device: u8) -> bool {
    bus.read(device, 4) & STATUS != 0
}

fn msix(bus: &TestBus, device: u8, on: bool) {
    bus.write(device, 0x40, if on { 0x8000_0000 } else { 0 });
}

#[test]
fn a_pin_is_inta_with_its_line_in_the_register_of_firmware() {
    let bus = TestBus::new();
    let (device, _) = insert(&bus);
    assert_eq!((device, bus.read(device, 0x3c)), (1, 0x0115));
    bus.write(device, 0x3c, 0xffff_ff0b);
    assert_eq!(bus.read(device, 0x3c), 0x010b, "the guest keeps in the line what it likes");
    let (without, _) = bus.insert(TestFunction::with_memory(1, 0x1000));
    assert_eq!(bus.read(without, 0x3c), 0);
}

#[test]
fn a_pin_is_asserted_once_while_there_are_causes() {
    let bus = TestBus::new();
    let (device, intx) = insert(&bus);
    assert_eq!((told(&bus), status(&bus, device)), (vec![], false));
    intx.raise(1);
    intx.raise(2);
    assert_eq!((told(&bus), status(&bus, device)), (vec![(21, true)], true));
    assert_eq!(intx.take(), 3);
    assert_eq!((told(&bus), status(&bus, device)), (vec![(21, false)], false));
}

#[test]
fn the_interrupt_status_is_read_at_every_width_and_not_written() {
    let bus = TestBus::new();
    let (device, intx) = insert(&bus);
    intx.raise(1);
    let read = |offset, width: usize| {
        let mut data = [0; 4];
        bus.buses.mmio.read(crate::testing::ecam(device, offset), &mut data[..width]);
        u32::from_le_bytes(data)
    };
    assert_eq!([read(6, 1), read(6, 2), read(7, 1), read(4, 2)], [0x18, 0x18, 0, 0x7]);
    bus.write(device, 4, 0xffff_0007);
    assert!(status(&bus, device));
}

#[test]
fn the_disable_bit_lowers_the_pin_and_leaves_the_status() {
    let bus = TestBus::new();
    let (device, intx) = insert(&bus);
    intx.raise(1);
    bus.write(device, 4, MEMORY | DISABLE);
    assert_eq!((told(&bus), status(&bus, device)), (vec![(21, true), (21, false)], true));
    intx.take();
    intx.raise(1);
    assert_eq!(told(&bus), []);
    bus.write(device, 4, MEMORY);
    assert_eq!(told(&bus), [(21, true)], "what is still the case is asserted");
}

#[test]
fn with_msix_there_is_no_intx() {
    let bus = TestBus::new();
    let (device, intx) = insert(&bus);
    intx.raise(1);
    msix(&bus, device, true);
    assert_eq!((told(&bus), status(&bus, device)), (vec![(21, true), (21, false)], false));
    intx.take();
    intx.raise(1);
    assert_eq!((told(&bus), status(&bus, device)), (vec![], false));
    msix(&bus, device, false);
    assert_eq!((told(&bus), status(&bus, device)), (vec![(21, true)], true));
}

#[test]
fn a_shared_line_is_asserted_as_long_as_one_of_its_pins_is() {
    let bus = TestBus::new();
    let pins: Vec<Intx> = (1..=5).map(|_| insert(&bus).1).collect();
    let (first, fifth) = (&pins[0], &pins[4]);
    first.raise(1);
    fifth.raise(1);
    assert_eq!(told(&bus), [(21, true)]);
    first.take();
    assert_eq!(told(&bus), []);
    pins[1].raise(1);
    fifth.take();
    assert_eq!(told(&bus), [(22, true), (21, false)]);
}

#[test]
fn a_function_that_goes_lowers_its_line_and_leaves_the_next_in_its_slot_alone() {
    let bus = TestBus::new();
    let (device, old) = insert(&bus);
    old.raise(1);
    bus.root.remove(Bdf::new(0, device, 0).unwrap());
    assert_eq!(told(&bus), [(21, true), (21, false)]);
    let (again, new) = insert(&bus);
    assert_eq!(again, device);
    new.raise(1);
    old.take();
    old.raise(1);
    assert_eq!(told(&bus), [(21, true)]);
}

#[test]
fn a_function_that_is_not_taken_asserts_nothing() {
    let bus = TestBus::new();
    let intx = Intx::new();
    intx.raise(1);
    let large = TestFunction { intx: Some(intx), ..TestFunction::with_memory(1, 512 << 20) };
    assert!(bus.root.insert(Arc::new(large)).is_err());
    assert_eq!(told(&bus), [(21, true), (21, false)]);
}

#[test]
fn what_the_host_refuses_is_tried_again() {
    let bus = TestBus::new();
    let (device, intx) = insert(&bus);
    bus.host.deaf.store(true, Ordering::Relaxed);
    intx.raise(1);
    bus.host.deaf.store(false, Ordering::Relaxed);
    bus.write(device, 4, MEMORY | DISABLE);
    bus.write(device, 4, MEMORY);
    assert_eq!(told(&bus), [(21, true)]);
}

#[test]
fn a_restored_bus_drives_its_lines_by_what_functions_restore() {
    let from = TestBus::new();
    let (device, _) = insert(&from);
    from.write(device, 4, MEMORY | DISABLE);
    let disabled = from.root.clone().save_section().unwrap();
    from.write(device, 4, MEMORY);
    let enabled = from.root.clone().save_section().unwrap();
    for (section, expected) in [(disabled, vec![]), (enabled, vec![(21, true)])] {
        let to = TestBus::new();
        let intx = Intx::new();
        to.root.insert(Arc::new(function(&intx))).unwrap();
        to.root.clone().restore_section(section).unwrap();
        intx.restore(1);
        assert_eq!((told(&to), status(&to, device)), (expected, true));
    }
}

#[test]
fn the_status_is_no_part_of_what_is_saved() {
    let bus = TestBus::new();
    let (_, intx) = insert(&bus);
    let before = bus.root.clone().save_section().unwrap();
    intx.raise(1);
    assert_eq!(bus.root.clone().save_section().unwrap(), before);
}

#[test]
fn a_line_ends_as_its_pins_are_whoever_was_faster() {
    const ROUNDS: u32 = 20_000;
    let bus = TestBus::new();
    let pins: Vec<Intx> = (1..=5).map(|_| insert(&bus).1).collect();
    let shared = [&pins[0], &pins[4]];
    thread::scope(|scope| {
        for intx in shared {
            scope.spawn(move || (0..ROUNDS).for_each(|_| intx.raise(1)));
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    intx.take();
                }
            });
        }
    });
    let high = shared.iter().any(|intx| intx.causes() != 0);
    let told = told(&bus);
    assert_eq!(told.last().is_some_and(|(_, level)| *level), high);
    assert!(told.windows(2).all(|pair| pair[0].1 != pair[1].1), "told once each time");
}
