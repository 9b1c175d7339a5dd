//! Devices that come to a running machine and go again.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use arch::{Layout, Node};
use device::{
    Attach, AttachError, Bar, BarKind, EventFd, EventOps, EventSet, Events, Identity, MsixLayout,
    MutEventSubscriber, PciFunction, Persist, RestoreError, SaveError, Versioned, WireError,
    Wiring,
};
use hypervisor::mock;
use memory::{Backing, Ram};
use purlin_board::{Board, BoardBuilder, BoardError, Hotplug, RemoveError};
use serde::{Deserialize, Serialize};
use snapshot::Snapshot;

/// What an I/O thread serves: an event.
#[derive(Debug)]
struct Guest {
    event: EventFd,
    served: Arc<AtomicBool>,
}

/// Its registers, which keep it as those of a real device do.
struct Function(#[expect(dead_code, reason = "held, not read")] Arc<Mutex<Guest>>);

impl PciFunction for Function {
    fn identity(&self) -> Identity {
        Identity { vendor: 0x1af4, device: 0x10ff, ..Identity::default() }
    }

    fn bars(&self) -> Vec<Bar> {
        vec![Bar { index: 0, kind: BarKind::Memory32, size: 0x1000 }]
    }

    fn msix(&self) -> Option<MsixLayout> {
        Some(MsixLayout { vectors: 1, bar: 0, table: 0x800, pba: 0xc00 })
    }
}

impl MutEventSubscriber for Guest {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        ops.add(Events::new(&self.event, EventSet::IN)).unwrap();
    }

    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        self.event.read().unwrap();
        self.served.store(true, Ordering::Release);
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedGuest {}

impl Versioned for SavedGuest {
    const KIND: &'static str = "test.guest";
    const VERSION: u32 = 1;
}

impl Persist for Guest {
    type State = SavedGuest;

    fn save(&mut self) -> Result<SavedGuest, SaveError> {
        Ok(SavedGuest {})
    }

    fn restore(&mut self, _: SavedGuest) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// Attaches a [`Guest`]; what its owner gets is how to reach it.
#[derive(Default)]
struct Visitor {
    /// Asks for a window of the machine's, too.
    greedy: bool,
    /// Claims a port.
    fixed: bool,
}

struct Reach {
    event: EventFd,
    served: Arc<AtomicBool>,
    guest: Weak<Mutex<Guest>>,
}

impl Attach for Visitor {
    type Handle = Reach;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<Reach, AttachError> {
        let event = EventFd::new(0)?;
        let served = Arc::<AtomicBool>::default();
        let guest = Guest { event: event.try_clone()?, served: served.clone() };
        let guest = Arc::new(Mutex::new(guest));
        wiring.pci(Arc::new(Function(guest.clone())))?;
        wiring.poll(guest.clone());
        wiring.persist(guest.clone());
        if self.greedy {
            wiring.window(0x1000)?;
        }
        if self.fixed {
            wiring.announce(Node::Rtc { port: 0x70 });
        }
        Ok(Reach { event, served, guest: Arc::downgrade(&guest) })
    }
}

fn builder() -> BoardBuilder {
    let layout = Layout::for_ram(1 << 20).unwrap();
    let ram = Ram::new(&layout.ram, Backing::Anonymous).unwrap();
    let machine = mock::Host::new([]).machine();
    BoardBuilder::new(machine, ram.memory(), &layout).unwrap()
}

fn board() -> (Board, Hotplug) {
    let mut builder = builder();
    builder.pci(None).unwrap();
    let board = builder.freeze().unwrap();
    let hotplug = board.hotplug().unwrap();
    (board, hotplug)
}

/// The dword at `register` of the hot-plug controller.
fn read(board: &Board, register: u64) -> u32 {
    let mut data = [0; 4];
    board.buses.mmio.read(controller(board) + register, &mut data);
    u32::from_le_bytes(data)
}

fn controller(board: &Board) -> u64 {
    let found = board.nodes.iter().find_map(|node| match node {
        Node::PciHotplug { base, .. } => Some(*base),
        _ => None,
    });
    found.unwrap()
}

/// The guest lets go of device number 1.
fn eject(board: &Board) {
    board.buses.mmio.write(controller(board) + 8, &2_u32.to_le_bytes());
}

/// Vendor and device of 00:01.0.
fn identity(board: &Board) -> u32 {
    let mut data = [0; 4];
    board.buses.pio.write(0xcf8, &0x8000_0800_u32.to_le_bytes());
    board.buses.pio.read(0xcfc, &mut data);
    u32::from_le_bytes(data)
}

/// Serves the board while `work` is done.
fn served<R>(board: &mut Board, work: impl FnOnce() -> R) -> R {
    let until = EventFd::new(0).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(|| board.serve(&until));
        let result = work();
        until.write(1).unwrap();
        serving.join().unwrap().unwrap();
        result
    })
}

#[test]
fn a_device_that_comes_is_on_the_bus_announced_and_served() {
    let (mut board, hotplug) = board();
    let reach = served(&mut board, || {
        let reach = hotplug.attach("late", Visitor::default()).unwrap();
        reach.event.write(1).unwrap();
        while !reach.served.load(Ordering::Acquire) {
            thread::yield_now();
        }
        reach
    });
    assert_eq!((identity(&board), read(&board, 0)), (0x10ff_1af4, 2));
    assert!(hotplug.has("late") && reach.guest.upgrade().is_some());
}

#[test]
fn a_device_that_goes_leaves_nothing_and_its_name_and_slot_are_free() {
    let (mut board, hotplug) = board();
    for _ in 0..50 {
        let reach = hotplug.attach("late", Visitor::default()).unwrap();
        served(&mut board, || ());
        hotplug.request_removal("late").unwrap();
        assert_eq!(read(&board, 4), 2);
        assert!(hotplug.has("late"), "it stays until the guest lets go of it");
        eject(&board);
        served(&mut board, || ());
        assert!(!hotplug.has("late"));
        assert_eq!(identity(&board), u32::MAX);
        assert!(reach.guest.upgrade().is_none(), "somebody still holds it");
    }
}

#[test]
fn a_device_that_goes_is_there_until_its_event_loop_has_let_go_of_it() {
    let (mut board, hotplug) = board();
    let reach = hotplug.attach("late", Visitor::default()).unwrap();
    served(&mut board, || ());
    hotplug.request_removal("late").unwrap();
    eject(&board);
    assert!(reach.guest.upgrade().is_some() && hotplug.has("late"), "nobody has served it since");
    let refused = hotplug.request_removal("late").unwrap_err();
    assert!(matches!(refused, RemoveError::Unknown(_)), "it is no longer on the bus");
    served(&mut board, || {
        while hotplug.has("late") {
            thread::yield_now();
        }
        assert!(reach.guest.upgrade().is_none(), "somebody still holds it");
    });
}

#[test]
fn devices_come_and_go_while_the_event_loop_runs() {
    let (mut board, hotplug) = board();
    let (buses, controller) = (board.buses.clone(), controller(&board));
    served(&mut board, || {
        for _ in 0..200 {
            let reach = hotplug.attach("late", Visitor::default()).unwrap();
            hotplug.request_removal("late").unwrap();
            buses.mmio.write(controller + 8, &2_u32.to_le_bytes());
            while hotplug.has("late") {
                thread::yield_now();
            }
            assert!(reach.guest.upgrade().is_none(), "somebody still holds it");
        }
    });
}

#[test]
fn a_device_that_was_there_from_the_start_can_go_too() {
    let mut builder = builder();
    builder.pci(None).unwrap();
    let reach = builder.attach("early", Visitor::default()).unwrap();
    let mut board = builder.freeze().unwrap();
    let hotplug = board.hotplug().unwrap();
    hotplug.request_removal("early").unwrap();
    eject(&board);
    served(&mut board, || ());
    assert!(reach.guest.upgrade().is_none());
}

#[test]
fn what_has_come_is_saved_and_what_has_gone_is_not() {
    let (mut board, hotplug) = board();
    let _reach = hotplug.attach("late", Visitor::default()).unwrap();
    let mut with = Snapshot::new();
    board.save(&mut with).unwrap();
    eject(&board);
    let mut without = Snapshot::new();
    board.save(&mut without).unwrap();
    assert!(with.take("late").is_ok());
    assert!(without.take("late").is_err());
}

#[test]
fn a_device_that_needs_more_than_the_bus_is_refused_and_leaves_nothing() {
    let (board, hotplug) = board();
    for visitor in [Visitor { greedy: true, fixed: false }, Visitor { greedy: false, fixed: true }]
    {
        let refused = hotplug.attach("late", visitor).err().unwrap();
        let BoardError::Attach { name, source: AttachError::Wire(WireError::Running) } = refused
        else {
            panic!("refused with {refused:?}")
        };
        assert_eq!(name, "late");
        assert!(!hotplug.has("late"));
        assert_eq!((identity(&board), read(&board, 0)), (u32::MAX, 0));
    }
    assert!(hotplug.attach("late", Visitor::default()).is_ok());
}

#[test]
fn names_stay_unique() {
    let (_board, hotplug) = board();
    let _reach = hotplug.attach("late", Visitor::default()).unwrap();
    assert!(hotplug.attach("late", Visitor::default()).is_err());
    assert!(hotplug.attach("pci", Visitor::default()).is_err());
}

#[test]
fn what_is_not_on_the_bus_cannot_go() {
    let (_board, hotplug) = board();
    for name in ["nobody", "pci"] {
        let refused = hotplug.request_removal(name).unwrap_err();
        assert!(matches!(refused, RemoveError::Unknown(_)), "{refused}");
    }
}

#[test]
fn without_a_bus_there_is_no_hot_plug() {
    assert!(builder().freeze().unwrap().hotplug().is_none());
}

#[test]
fn a_machine_that_is_dropped_leaves_nothing() {
    let (mut board, hotplug) = board();
    let reach = hotplug.attach("late", Visitor::default()).unwrap();
    served(&mut board, || ());
    drop((board, hotplug));
    assert!(reach.guest.upgrade().is_none());
}
