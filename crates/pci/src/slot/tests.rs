use device::EventFd;

use super::*;
use crate::testing::{TestBus, TestFunction, TestHost};

const LAYOUT: MsixLayout = MsixLayout { vectors: 3, bar: 0, table: 0x1000, pba: 0x1800 };

fn refused(function: TestFunction) -> FunctionError {
    let error = Slot::new(Arc::new(function), &TestHost::default(), None).map(drop).unwrap_err();
    let InsertError::Function(error) = error else { panic!("{error}") };
    error
}

fn with_msix(msix: MsixLayout) -> TestFunction {
    TestFunction { msix: Some(msix), ..TestFunction::with_memory(1, 0x2000) }
}

#[test]
fn msix_structures_that_do_not_fit_their_bar_are_refused() {
    let wrong = [
        MsixLayout { vectors: 0, ..LAYOUT },
        MsixLayout { vectors: 2049, ..LAYOUT },
        MsixLayout { bar: 1, ..LAYOUT },
        MsixLayout { table: 0x1004, ..LAYOUT },
        MsixLayout { pba: 0x1804, ..LAYOUT },
        MsixLayout { pba: 0x1028, ..LAYOUT },
        MsixLayout { table: 0x1fd8, ..LAYOUT },
        MsixLayout { pba: 0x2000, ..LAYOUT },
    ];
    for layout in wrong {
        let MsixLayout { vectors, bar, table, pba } = layout;
        assert_eq!(refused(with_msix(layout)), FunctionError::Msix { vectors, bar, table, pba });
    }
}

#[test]
fn more_vectors_than_the_capability_can_say_are_refused() {
    let slot = |vectors| {
        let layout = MsixLayout { vectors, bar: 0, table: 0, pba: 0x1_0000 };
        let function = TestFunction::with_memory(1, 0x2_0000);
        let function = TestFunction { msix: Some(layout), ..function };
        Slot::new(Arc::new(function), &TestHost::default(), None)
    };
    assert!(slot(2048).is_ok());
    assert!(slot(2049).is_err());
}

#[test]
fn msix_in_ports_is_refused() {
    let function = TestFunction {
        msix: Some(MsixLayout { vectors: 1, bar: 0, table: 0, pba: 0x80 }),
        ..TestFunction::with_bar(1, BarKind::Io, 0x100)
    };
    assert!(matches!(refused(function), FunctionError::Msix { .. }));
}

#[test]
fn a_doorbell_outside_its_bar_is_refused() {
    let event = Arc::new(EventFd::new(0).unwrap());
    let doorbells = vec![BarDoorbell { bar: 0, offset: 0x2000, event }];
    let function = TestFunction { doorbells, ..TestFunction::with_memory(1, 0x2000) };
    assert_eq!(refused(function), FunctionError::Doorbell { bar: 0, offset: 0x2000 });
}

#[test]
fn a_function_gets_a_line_for_each_vector_which_its_table_decides() {
    let bus = TestBus::new();
    let (device, function) = bus.insert(with_msix(LAYOUT));
    let base = u64::from(bus.read(device, 0x10));
    assert_eq!(bus.read(device, 0x40), 0x0002_0011);
    assert_eq!([bus.read(device, 0x44), bus.read(device, 0x48)], [0x1000, 0x1800]);
    bus.write(device, 0x40, 0x8000_0000);
    bus.store(base + 0x1010, 0xfee0_0000);
    bus.store(base + 0x1018, 0x31);
    let lines = function.lines.get().unwrap();
    lines[1].raise().unwrap();
    assert_eq!((lines.len(), bus.load(base + 0x1800)), (3, 0b10));
    bus.store(base + 0x101c, 0);
    let vector = Arc::clone(&bus.host.vectors.lock().unwrap()[1]);
    let delivered = vector.delivered.lock().unwrap().clone();
    assert_eq!(delivered, [crate::Message { address: 0xfee0_0000, data: 0x31 }]);
    assert_eq!(bus.load(base + 0x1800), 0);
}

#[test]
fn a_message_waits_for_bus_mastering() {
    let bus = TestBus::new();
    let (device, function) = bus.insert(with_msix(LAYOUT));
    let base = u64::from(bus.read(device, 0x10));
    bus.write(device, 0x40, 0x8000_0000);
    bus.store(base + 0x100c, 0);
    let vector = Arc::clone(&bus.host.vectors.lock().unwrap()[0]);
    let delivered = || vector.delivered.lock().unwrap().len();
    bus.write(device, 4, 2);
    function.lines.get().unwrap()[0].raise().unwrap();
    assert_eq!((delivered(), bus.load(base + 0x1800)), (0, 1));
    bus.write(device, 4, 6);
    assert_eq!((delivered(), bus.load(base + 0x1800)), (1, 0));
}

#[test]
fn a_function_is_told_of_bus_mastering_when_it_changes() {
    let bus = TestBus::new();
    let (device, function) = bus.insert(TestFunction::with_memory(1, 0x1000));
    for command in [6, 7, 2, 3, 4] {
        bus.write(device, 4, command);
    }
    // `insert` has switched everything on.
    assert_eq!(*function.mastering.lock().unwrap(), [true, false, true]);
}

#[test]
fn a_restored_function_is_told_of_bus_mastering() {
    use device::Persist;

    let (from, to) = (TestBus::new(), TestBus::new());
    let (device, _) = from.insert(TestFunction::with_memory(1, 0x1000));
    let (_, function) = to.insert(TestFunction::with_memory(1, 0x1000));
    from.write(device, 4, 2);
    to.root.clone().restore(from.root.clone().save().unwrap()).unwrap();
    assert_eq!(*function.mastering.lock().unwrap(), [true, false]);
}

#[test]
fn a_function_that_is_gone_sends_no_message_and_leaves_memory_alone() {
    use device::Bdf;

    let bus = TestBus::new();
    let (device, function) = bus.insert(with_msix(LAYOUT));
    let base = u64::from(bus.read(device, 0x10));
    bus.write(device, 0x40, 0x8000_0000);
    bus.store(base + 0x100c, 0);
    let vector = Arc::clone(&bus.host.vectors.lock().unwrap()[0]);
    let line = function.lines.get().unwrap()[0].clone();
    line.raise().unwrap();
    bus.root.remove(Bdf::new(0, device, 0).unwrap());
    line.raise().unwrap();
    assert_eq!(vector.delivered.lock().unwrap().len(), 1);
    assert_eq!(*function.mastering.lock().unwrap(), [true, false]);
}

#[test]
fn the_function_sees_its_bar_but_not_the_msix_structures() {
    let bus = TestBus::new();
    let (device, function) = bus.insert(with_msix(LAYOUT));
    let base = u64::from(bus.read(device, 0x10));
    for offset in [0xffc, 0x1000, 0x102c, 0x1030, 0x1800, 0x1804, 0x1808] {
        bus.store(base + offset, 5);
    }
    let seen: Vec<u64> =
        function.written.lock().unwrap().iter().map(|(_, offset, _)| *offset).collect();
    assert_eq!(seen, [0xffc, 0x1030, 0x1808]);
}

/// As virtio's access capability: the body is length, type, BAR, 5 bytes, offset, length, data.
fn with_window() -> TestFunction {
    let window = CapabilityWindow { bar: 2, offset: 6, length: 10, data: 14 };
    let mut mask = vec![0, 0, 0xff, 0, 0, 0];
    mask.resize(18, 0xff);
    let capability = Capability::new(9, vec![0; 18]).writable(mask).window(window);
    TestFunction { capabilities: vec![capability], ..TestFunction::with_memory(0x77, 0x1000) }
}

#[test]
fn a_window_reaches_a_bar_that_is_not_mapped() {
    let bus = TestBus::new();
    let (device, function) = bus.insert(with_window());
    bus.write(device, 4, 0);
    bus.write(device, 0x48, 0x0ffc);
    bus.write(device, 0x4c, 4);
    assert_eq!(bus.read(device, 0x50), 0x7777_7777);
    bus.write(device, 0x50, 0x0102_0304);
    let written = function.written.lock().unwrap().clone();
    assert_eq!(written, [(0, 0xffc, vec![4, 3, 2, 1])]);
}

#[test]
fn a_window_that_is_on_no_register_reads_what_was_written_there() {
    let bus = TestBus::new();
    let (device, function) = bus.insert(with_window());
    let places =
        [(0, 0x1000, 4), (0, 0xffe, 4), (0, 0, 0), (0, 0, 8), (0, 0, 2), (1, 0, 4), (0, 2, 4)];
    for (bar, offset, length) in places {
        bus.write(device, 0x44, bar);
        bus.write(device, 0x48, offset);
        bus.write(device, 0x4c, length);
        bus.write(device, 0x50, 0x55);
        assert_eq!(bus.read(device, 0x50), 0x55, "BAR {bar}, {offset:#x}, {length}");
    }
    assert!(function.written.lock().unwrap().is_empty());
}
