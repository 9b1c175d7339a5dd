use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use device::{Bar, BarDoorbell, Component, FakeWiring, conformance};

use super::*;
use crate::testing::{
    ECAM, INTX, MEM32, MEM32_LAST, MEM64, PORTS, TestBus, TestFunction, TestHost, ecam,
};

const WIDE: BarKind = BarKind::Memory64 { prefetchable: true };

fn select(bus: &TestBus, address: u32) {
    bus.buses.pio.write(0xcf8, &address.to_le_bytes());
}

fn port(bus: &TestBus, port: u16, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    bus.buses.pio.read(port, &mut data);
    data
}

/// Where BAR 0 of `device` is, whether it answers or not.
fn base(bus: &TestBus, device: u8) -> u64 {
    u64::from(bus.read(device, 0x10) & !0xf)
}

fn as_u32(address: u64) -> u32 {
    u32::try_from(address).unwrap()
}

#[test]
fn a_host_bridge_is_at_the_first_place() {
    let bus = TestBus::new();
    assert_eq!(bus.read(0, 0), 0x0008_1b36);
    assert_eq!(bus.read(0, 8) >> 8, 0x06_0000);
}

#[test]
fn both_mechanisms_reach_the_same_registers() {
    let bus = TestBus::new();
    let (device, _) = bus.insert(TestFunction::with_memory(1, 0x1000));
    select(&bus, 0x8000_083c);
    bus.buses.pio.write(0xcfc, &[0x5a]);
    assert_eq!(bus.read(device, 0x3c), 0x5a);
    assert_eq!(port(&bus, 0xcfc, 4), [0x5a, 0, 0, 0]);
    select(&bus, 0x8000_0800);
    assert_eq!(port(&bus, 0xcfe, 2), [0x01, 0x10]);
    assert_eq!(port(&bus, 0xcfd, 1), [0x1a]);
}

#[test]
fn absent_functions_read_as_all_ones_and_swallow_writes() {
    let bus = TestBus::new();
    // Device 1; function 1; bus 1; not enabled.
    for address in [0x8000_0800, 0x8000_0100, 0x8001_0000, 0] {
        select(&bus, address);
        bus.buses.pio.write(0xcfc, &[0; 4]);
        assert_eq!(port(&bus, 0xcfc, 4), [0xff; 4], "{address:#x}");
    }
    assert_eq!([ecam(1, 0), ecam(0, 0x1000), ecam(31, 0x7000)].map(|at| bus.load(at)), [!0; 3]);
}

#[test]
fn the_address_register_is_a_dword_and_keeps_its_defined_bits() {
    let bus = TestBus::new();
    select(&bus, 0xffff_ffff);
    assert_eq!(port(&bus, 0xcf8, 4), [0xfc, 0xff, 0xff, 0x80]);
    bus.buses.pio.write(0xcf8, &[0]);
    bus.buses.pio.write(0xcf9, &[6]);
    assert_eq!(port(&bus, 0xcf8, 4), [0xfc, 0xff, 0xff, 0x80]);
    assert_eq!([port(&bus, 0xcf8, 1), port(&bus, 0xcfb, 1)], [[0xff], [0xff]]);
}

#[test]
fn ecam_refuses_what_is_wide_or_misaligned() {
    let bus = TestBus::new();
    let read = |at, len: usize| {
        let mut data = [0; 8];
        bus.buses.mmio.read(at, &mut data[..len]);
        data[..len].iter().all(|byte| *byte == 0xff)
    };
    assert!(read(ECAM, 8) && read(ECAM, 3) && read(ECAM + 1, 2) && read(ECAM + 2, 4));
    assert!(!read(ECAM, 4) && !read(ECAM + 2, 2) && !read(ECAM + 1, 1));
}

#[test]
fn extended_configuration_space_is_empty() {
    let bus = TestBus::new();
    bus.write(0, 0x100, 0xffff_ffff);
    assert_eq!([bus.read(0, 0x100), bus.read(0, 0xffc)], [0; 2]);
}

#[test]
fn a_function_is_placed_apart_from_the_others_and_answers_when_switched_on() {
    let bus = TestBus::new();
    let (one, _) = bus.insert(TestFunction::with_memory(1, 0x1000));
    let (two, _) = bus.insert(TestFunction::with_memory(2, 0x4000));
    assert_eq!((one, two), (1, 2));
    assert_eq!([base(&bus, one), base(&bus, two)], [MEM32, MEM32 + 0x4000]);
    assert_eq!([bus.tag(MEM32 + 0xfff), bus.tag(MEM32 + 0x1000)], [1, 0xff]);
    assert_eq!([bus.tag(MEM32 + 0x4000), bus.tag(MEM32 + 0x7fff)], [2, 2]);
    bus.write(one, 4, 0);
    assert_eq!(bus.tag(MEM32), 0xff);
}

#[test]
fn the_bars_of_one_function_are_placed_apart_the_largest_first() {
    let bus = TestBus::new();
    let bar = |index, size| Bar { index, kind: BarKind::Memory32, size };
    let bars = vec![bar(0, 0x1000), bar(1, 0x2000), bar(2, 0x1000)];
    let (device, _) = bus.insert(TestFunction { bars, ..TestFunction::default() });
    let at = [0x10, 0x14, 0x18].map(|register| u64::from(bus.read(device, register)) - MEM32);
    assert_eq!(at, [0x2000, 0, 0x3000]);
}

#[test]
fn a_bar_moves_and_its_old_place_is_empty() {
    let bus = TestBus::new();
    let (device, function) = bus.insert(TestFunction::with_memory(1, 0x1000));
    bus.write(device, 0x10, as_u32(MEM32 + 0x8000));
    assert_eq!([bus.tag(MEM32), bus.tag(MEM32 + 0x8000)], [0xff, 1]);
    bus.store(MEM32 + 0x8010, 9);
    assert_eq!(*function.written.lock().unwrap(), [(0, 0x10, vec![9, 0, 0, 0])]);
    assert_eq!(bus.root.mapped(Bdf::new(0, device, 0).unwrap(), 0), Some(MEM32 + 0x8000));
}

#[test]
fn a_bar_put_onto_another_does_not_answer_until_its_place_is_free() {
    let bus = TestBus::new();
    let (first, _) = bus.insert(TestFunction::with_memory(1, 0x4000));
    let (second, _) = bus.insert(TestFunction::with_memory(2, 0x1000));
    let old = base(&bus, second);
    bus.write(second, 0x10, as_u32(MEM32 + 0x1000));
    assert_eq!([bus.tag(MEM32), bus.tag(MEM32 + 0x1000), bus.tag(old)], [1, 1, 0xff]);
    bus.write(first, 0x10, as_u32(MEM32 + 0x10_0000));
    assert_eq!([bus.tag(MEM32), bus.tag(MEM32 + 0x1000)], [0xff, 2]);
    assert_eq!(bus.tag(MEM32 + 0x10_0000), 1);
}

#[test]
fn a_bar_that_comes_to_lie_between_two_does_not_answer_if_it_reaches_the_upper_one() {
    let bus = TestBus::new();
    let devices = [1, 2, 3].map(|tag| {
        bus.insert(TestFunction::with_memory(tag, if tag == 3 { 0x4000 } else { 0x1000 })).0
    });
    for (device, at) in devices.into_iter().zip([0, 0x2_1000, 0x2_0000]) {
        bus.write(device, 0x10, as_u32(MEM32 + 0x10_0000 + at));
    }
    let found = [0, 0x2_0000, 0x2_1000, 0x2_2000].map(|at| bus.tag(MEM32 + 0x10_0000 + at));
    assert_eq!(found, [1, 0xff, 2, 0xff]);
}

#[test]
fn the_one_that_was_there_first_goes_on_answering_whatever_its_number() {
    let bus = TestBus::new();
    let (first, _) = bus.insert(TestFunction::with_memory(1, 0x1000));
    let (second, _) = bus.insert(TestFunction::with_memory(2, 0x1000));
    let place = base(&bus, second);
    bus.write(first, 0x10, as_u32(place));
    assert_eq!(bus.tag(place), 2);
}

#[test]
fn a_bar_off_the_window_does_not_answer() {
    let bus = TestBus::new();
    let (device, _) = bus.insert(TestFunction::with_memory(1, 0x1000));
    for address in [0, ECAM, MEM32 - 0x1000, MEM32_LAST + 1, 0xfee0_0000, 0xffff_f000] {
        bus.write(device, 0x10, as_u32(address));
        assert_eq!(bus.root.mapped(Bdf::new(0, device, 0).unwrap(), 0), None, "{address:#x}");
    }
    assert_eq!(bus.read(0, 0), 0x0008_1b36, "ECAM still answers");
    bus.write(device, 0x10, as_u32(MEM32_LAST - 0xfff));
    assert_eq!(bus.tag(MEM32_LAST), 1);
}

#[test]
fn a_64_bit_bar_half_written_onto_another_takes_nothing_away() {
    let bus = TestBus::new();
    let (low, _) = bus.insert(TestFunction::with_memory(1, 0x1000));
    let (wide, _) = bus.insert(TestFunction::with_bar(2, WIDE, 0x1000));
    assert_eq!(bus.tag(MEM64), 2);
    // From the high window to the low one, the high half first: for a while it is at an address
    // below 4 GiB that nobody meant.
    bus.write(wide, 0x14, 0);
    assert_eq!([bus.tag(MEM64), bus.tag(MEM32)], [0xff, 1]);
    bus.write(wide, 0x10, as_u32(MEM32));
    assert_eq!(bus.tag(MEM32), 1);
    bus.write(wide, 0x14, 0x10);
    assert_eq!(bus.tag(MEM64 + MEM32), 2);
    assert_eq!(base(&bus, low), MEM32);
}

#[test]
fn sizing_a_bar_that_is_switched_on_disturbs_nobody() {
    let bus = TestBus::new();
    let (wide, _) = bus.insert(TestFunction::with_bar(1, WIDE, 1 << 20));
    let (other, _) = bus.insert(TestFunction::with_memory(2, 0x1000));
    let (low, high) = (bus.read(wide, 0x10), bus.read(wide, 0x14));
    bus.write(wide, 0x10, !0);
    bus.write(wide, 0x14, !0);
    assert_eq!([bus.read(wide, 0x10), bus.read(wide, 0x14)], [0xfff0_000c, !0]);
    assert_eq!(bus.tag(base(&bus, other)), 2);
    bus.write(wide, 0x10, low);
    bus.write(wide, 0x14, high);
    assert_eq!(bus.tag(MEM64 + 0xf_ffff), 1);
}

#[test]
fn a_bar_of_ports_answers_in_its_window_and_nowhere_else() {
    let bus = TestBus::new();
    let (device, function) = bus.insert(TestFunction::with_bar(3, BarKind::Io, 0x20));
    assert_eq!(bus.read(device, 0x10), 0xc001);
    assert_eq!([port(&bus, PORTS, 2), port(&bus, PORTS + 0x20, 2)], [[3, 3], [0xff, 0xff]]);
    bus.buses.pio.write(PORTS + 0x1f, &[7]);
    assert_eq!(*function.written.lock().unwrap(), [(0, 0x1f, vec![7])]);
    for address in [0x3e0, 0xcf8, 0x1_c000, 0xd000] {
        bus.write(device, 0x10, address);
        assert_eq!(bus.root.mapped(Bdf::new(0, device, 0).unwrap(), 0), None, "{address:#x}");
    }
}

#[test]
fn an_access_that_leaves_a_bar_reaches_nobody() {
    let bus = TestBus::new();
    let (_, function) = bus.insert(TestFunction::with_memory(1, 0x1000));
    bus.store(MEM32 + 0xffe, 0);
    bus.store(MEM32 - 2, 0);
    assert_eq!(bus.load(MEM32 + 0xffe), !0);
    assert!(function.written.lock().unwrap().is_empty());
}

#[test]
fn doorbells_follow_their_bar() {
    let bus = TestBus::new();
    let event = Arc::new(EventFd::new(0).unwrap());
    let doorbells = vec![BarDoorbell { bar: 0, offset: 0x10, event }];
    let function = TestFunction { doorbells, ..TestFunction::with_memory(1, 0x1000) };
    let (device, _) = bus.insert(function);
    let listening = || bus.host.listening.lock().unwrap().clone();
    assert_eq!(listening(), [MEM32 + 0x10]);
    bus.write(device, 0x10, as_u32(MEM32 + 0x3000));
    assert_eq!(listening(), [MEM32 + 0x3010]);
    bus.write(device, 0x10, 0xffff_ffff);
    assert_eq!(listening(), [0; 0]);
    bus.write(device, 0x10, as_u32(MEM32));
    bus.write(device, 4, 0);
    assert_eq!(listening(), [0; 0]);
}

#[test]
fn a_doorbell_that_the_host_does_not_take_costs_an_exit_and_is_asked_for_again() {
    let bus = TestBus::new();
    let event = Arc::new(EventFd::new(0).unwrap());
    let doorbells = vec![BarDoorbell { bar: 0, offset: 0, event }];
    bus.host.deaf.store(true, Ordering::Relaxed);
    let (device, function) =
        bus.insert(TestFunction { doorbells, ..TestFunction::with_memory(1, 0x1000) });
    bus.store(MEM32, 1);
    assert_eq!(function.written.lock().unwrap().len(), 1);
    bus.host.deaf.store(false, Ordering::Relaxed);
    bus.write(device, 4, 7);
    assert_eq!(*bus.host.listening.lock().unwrap(), [MEM32]);
}

#[test]
fn a_bar_answers_without_a_gap_while_others_move_over_it() {
    let bus = TestBus::new();
    let (mover, _) = bus.insert(TestFunction::with_memory(1, 0x1000));
    let (stayer, _) = bus.insert(TestFunction::with_memory(2, 0x1000));
    let place = base(&bus, stayer);
    let moving = AtomicBool::new(true);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut wrong = 0;
            while moving.load(Ordering::Relaxed) {
                wrong += u32::from(bus.tag(place) != 2);
            }
            wrong
        });
        for round in 0..2000_u64 {
            bus.write(mover, 0x10, as_u32(place - 0x1000 + round % 3 * 0x1000));
        }
        moving.store(false, Ordering::Relaxed);
        assert_eq!(reader.join().unwrap(), 0);
    });
}

#[test]
fn slots_are_given_until_none_is_left() {
    let bus = TestBus::new();
    for device in 1..32 {
        assert_eq!(bus.insert(TestFunction::with_memory(1, 0x10)).0, device);
    }
    let function = || Arc::new(TestFunction::with_memory(1, 0x10));
    assert!(matches!(bus.root.insert(function()), Err(InsertError::NoSlot)));
    let taken = |device| bus.root.insert_at(device, function()).unwrap_err().to_string();
    assert!(taken(5).starts_with("slot 5 of the PCI bus cannot be used"));
    assert!(taken(32).starts_with("slot 32 of the PCI bus cannot be used"));
}

#[test]
fn bars_that_fit_no_window_are_refused_with_their_size() {
    let bus = TestBus::new();
    let function = TestFunction::with_memory(1, 512 << 20);
    let error = bus.root.insert(Arc::new(function)).unwrap_err();
    assert!(matches!(error, InsertError::NoRoom { index: 0, size: 0x2000_0000 }));
    assert_eq!(bus.read(1, 0), !0, "it is not there");
}

#[test]
fn the_root_is_announced_with_its_windows() {
    let bus = TestBus::new();
    let window = |first, last| Window { first, last };
    let node = Node::PciRoot {
        ecam: ECAM,
        mem32: window(MEM32, MEM32_LAST),
        mem64: Some(window(MEM64, MEM64 + (1 << 32) - 1)),
        io: Some(window(0xc000, 0xcfff)),
        intx: Some(INTX),
    };
    assert_eq!(bus.wiring.nodes[..1], [node]);
}

fn function() -> TestFunction {
    let msix = device::MsixLayout { vectors: 2, bar: 0, table: 0, pba: 0x800 };
    TestFunction { msix: Some(msix), ..TestFunction::with_memory(1, 0x1000) }
}

#[test]
fn a_restored_bus_routes_and_interrupts_as_the_saved_one() {
    let from = TestBus::new();
    let (device, line) = from.insert(function());
    from.write(device, 0x10, as_u32(MEM32 + 0x5000));
    from.write(device, 0x40, 0x8000_0000);
    from.store(MEM32 + 0x5000, 0xfee0_0000);
    line.lines.get().unwrap()[0].raise().unwrap();
    let saved = from.root.clone().save_section().unwrap();
    let to = TestBus::new();
    to.root.insert(Arc::new(function())).unwrap();
    to.root.clone().restore_section(saved.clone()).unwrap();
    assert_eq!(to.root.clone().save_section().unwrap(), saved);
    assert_eq!([to.load(MEM32 + 0x5000), to.load(MEM32 + 0x5800)], [0xfee0_0000, 1]);
    to.store(MEM32 + 0x500c, 0);
    assert_eq!(to.host.vectors.lock().unwrap()[0].delivered.lock().unwrap().len(), 1);
}

#[test]
fn a_state_of_another_bus_is_refused_and_changes_nothing() {
    let from = TestBus::new();
    from.insert(function());
    let good = from.root.clone().save().unwrap();
    let to = TestBus::new();
    to.insert(TestFunction::with_memory(1, 0x1000));
    let before = to.root.clone().save().unwrap();
    let why = |saved: SavedRoot| to.root.clone().restore(saved).unwrap_err().to_string();
    assert!(why(good.clone()).contains("00:01.0: the function has no MSI-X"));
    let empty = SavedRoot { functions: Vec::new(), ..good.clone() };
    assert!(why(empty).contains("devices [] instead of [0, 1] on bus 0"));
    let mut device = before.clone();
    device.functions[1].config[0] = 0;
    assert!(why(device).contains("configuration register 0x0 is not that of the function here"));
    assert!(why(SavedRoot { address: 3, ..before.clone() }).contains("0x3 has reserved bits"));
    let strange = SavedRoot { came: 1 << 2, leaving: 1, ..before.clone() };
    assert!(why(strange).contains("devices 0x5 come or go and are not there"));
    assert_eq!(to.root.clone().save().unwrap(), before);
}

#[test]
fn the_bus_conforms() {
    let mut wiring = FakeWiring::new().unwrap();
    let host = Arc::new(TestHost::default());
    let root = RootComplex::new(host).io(Range::new(PORTS, 0x100).unwrap());
    let root = wiring.attach(root).unwrap();
    root.insert(Arc::new(function())).unwrap();
    conformance::bus_device(&mut wiring);
}

/// Every BAR that answers does so alone, inside of the windows.
fn check_routes(bus: &TestBus) {
    let routes = bus.root.0.routes.load();
    let mut memory: Vec<_> = routes.iter().filter(|r| r.bar.kind != BarKind::Io).collect();
    memory.sort_by_key(|route| route.at.first());
    assert!(memory.windows(2).all(|pair| pair[0].at.last() < pair[1].at.first()), "{memory:?}");
    let inside = |route: &&Route| bus.root.0.windows.hold(route.bar.kind, route.at);
    assert!(routes.iter().all(|route| inside(&route)), "{routes:?}");
}

#[test]
fn random_accesses_to_configuration_space_never_break_the_routes() {
    let bus = TestBus::new();
    for tag in 0..6 {
        let bars = vec![
            Bar { index: 0, kind: BarKind::Memory32, size: 0x1000 << tag },
            Bar { index: 1, kind: BarKind::Io, size: 0x10 },
            Bar { index: 4, kind: WIDE, size: 0x4000 },
        ];
        bus.insert(TestFunction { bars, ..function() });
    }
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |end: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % end
    };
    let mut answered = 0_usize;
    for _ in 0..20_000 {
        let at = ecam(u8::try_from(random(8)).unwrap(), random(0x60));
        let places = [MEM32, MEM32 + 0x4000, MEM64, u64::from(PORTS), 0x10, 7, u64::MAX, 0];
        let value = places[usize::try_from(random(8)).unwrap()].wrapping_add(random(3) * 0x1000);
        let width = [1, 2, 4][usize::try_from(random(3)).unwrap()];
        bus.buses.mmio.write(at, &value.to_le_bytes()[..width]);
        check_routes(&bus);
        answered += bus.root.0.routes.load().iter().count();
    }
    assert!(answered > 1000, "the BARs were not all switched off all the time: {answered}");
}
