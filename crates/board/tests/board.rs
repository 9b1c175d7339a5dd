//! A board on a scripted machine: what devices take, and what becomes of it.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::{
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    thread,
};

use arch::{IoAddr, Layout, Node};
use bus::Range;
use device::{
    AccessError, Action, Attach, AttachError, EventFd, EventOps, EventSet, Events, Irq, IrqLine,
    MutBusDevice, MutEventSubscriber, Persist, RestoreError, SaveError, Versioned, Wiring,
};
use hypervisor::mock;
use memory::{Backing, Ram};
use purlin_board::{Board, BoardBuilder, BoardError};
use serde::{Deserialize, Serialize};
use snapshot::Snapshot;

/// Uses every service: ports, a window, a line, a doorbell, polling, saved state, a node.
#[derive(Debug)]
struct Bell {
    port: u16,
    rung: u32,
    line: IrqLine,
    doorbell: Option<EventFd>,
}

impl Bell {
    fn at(port: u16) -> Self {
        Self { port, rung: 0, line: IrqLine::null(), doorbell: None }
    }
}

impl Attach for Bell {
    type Handle = Arc<Mutex<Self>>;

    fn attach(mut self, wiring: &mut dyn Wiring) -> Result<Self::Handle, AttachError> {
        let port = self.port;
        let window = wiring.window(0x200)?;
        let (gsi, line) = wiring.irq(Irq::Any)?;
        self.line = line;
        self.doorbell = Some(wiring.doorbell(IoAddr::Mmio(window.first()), None)?);
        let bell = Arc::new(Mutex::new(self));
        wiring.pio(Range::new(port, 1)?, bell.clone());
        wiring.mmio(window, bell.clone());
        wiring.poll(bell.clone());
        wiring.persist(bell.clone());
        wiring.announce(Node::VirtioMmio { base: window.first(), len: 0x200, gsi });
        Ok(bell)
    }
}

impl MutBusDevice for Bell {
    fn read(&mut self, _: u64, data: &mut [u8]) -> Result<(), AccessError> {
        data.fill(u8::try_from(self.rung).unwrap());
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<Action, AccessError> {
        Ok(Action::Continue)
    }
}

impl MutEventSubscriber for Bell {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        ops.add(Events::new(self.doorbell.as_ref().unwrap(), EventSet::IN)).unwrap();
    }

    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        self.doorbell.as_ref().unwrap().read().unwrap();
        self.rung += 1;
        self.line.raise().unwrap();
    }
}

/// Notes which thread serves it.
#[derive(Debug, Default)]
struct Place {
    doorbell: Option<EventFd>,
    served_on: Option<String>,
    panics: bool,
}

impl Place {
    fn name(&self) -> String {
        self.served_on.clone().unwrap()
    }
}

impl Attach for Place {
    type Handle = Arc<Mutex<Self>>;

    fn attach(mut self, wiring: &mut dyn Wiring) -> Result<Self::Handle, AttachError> {
        let window = wiring.window(4)?;
        self.doorbell = Some(wiring.doorbell(IoAddr::Mmio(window.first()), None)?);
        let place = Arc::new(Mutex::new(self));
        wiring.poll(place.clone());
        Ok(place)
    }
}

impl MutEventSubscriber for Place {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        ops.add(Events::new(self.doorbell.as_ref().unwrap(), EventSet::IN)).unwrap();
    }

    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        assert!(!self.panics, "as it should");
        self.doorbell.as_ref().unwrap().read().unwrap();
        self.served_on = thread::current().name().map(str::to_owned);
    }
}

#[derive(Serialize, Deserialize)]
struct SavedBell {
    rung: u32,
}

impl Versioned for SavedBell {
    const KIND: &'static str = "test.bell";
    const VERSION: u32 = 1;
}

impl Persist for Bell {
    type State = SavedBell;

    fn save(&mut self) -> Result<SavedBell, SaveError> {
        Ok(SavedBell { rung: self.rung })
    }

    fn restore(&mut self, state: SavedBell) -> Result<(), RestoreError> {
        self.rung = state.rung;
        Ok(())
    }
}

fn builder() -> (BoardBuilder, Arc<mock::Machine>) {
    let layout = Layout::for_ram(1 << 20).unwrap();
    let ram = Ram::new(&layout.ram, Backing::Anonymous).unwrap();
    let machine = mock::Host::new([]).machine();
    (BoardBuilder::new(machine.clone(), ram.memory(), &layout).unwrap(), machine)
}

fn board_with_bell() -> (Board, Arc<Mutex<Bell>>, Arc<mock::Machine>) {
    let (mut builder, machine) = builder();
    let bell = builder.attach("bell", Bell::at(0x10)).unwrap();
    (builder.freeze().unwrap(), bell, machine)
}

#[test]
fn a_device_is_found_on_both_buses_and_described() {
    let (board, bell, _) = board_with_bell();
    bell.lock().unwrap().rung = 7;
    let (mut port, mut register) = ([0], [0]);
    board.buses.pio.read(0x10, &mut port);
    board.buses.mmio.read(0xc000_0000, &mut register);
    assert_eq!((port, register), ([7], [7]));
    assert_eq!(board.nodes, [Node::VirtioMmio { base: 0xc000_0000, len: 0x200, gsi: 16 }]);
}

#[test]
fn a_doorbell_reaches_the_device_and_its_line_the_machine() {
    let (mut board, bell, machine) = board_with_bell();
    let until = EventFd::new(0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| board.serve(&until).unwrap());
        assert!(machine.ring(IoAddr::Mmio(0xc000_0000), 1));
        while bell.lock().unwrap().rung == 0 {
            thread::yield_now();
        }
        until.write(1).unwrap();
    });
    assert_eq!(machine.edges(16), 1);
    assert_eq!(until.read().unwrap(), 1, "the event is left as it was");
}

#[test]
fn devices_are_dealt_to_the_i_o_threads_in_turn() {
    let (mut builder, machine) = builder();
    builder.io_threads(NonZeroUsize::new(2).unwrap()).unwrap();
    let places: Vec<_> =
        ["a", "b", "c"].map(|name| builder.attach(name, Place::default()).unwrap()).into();
    let mut board = builder.freeze().unwrap();
    let until = EventFd::new(0).unwrap();
    thread::scope(|scope| {
        thread::Builder::new()
            .name("main".to_owned())
            .spawn_scoped(scope, || board.serve(&until).unwrap())
            .unwrap();
        for index in 0..3 {
            assert!(machine.ring(IoAddr::Mmio(0xc000_0000 + 0x1000 * index), 1));
        }
        while places.iter().any(|place| place.lock().unwrap().served_on.is_none()) {
            thread::yield_now();
        }
        until.write(1).unwrap();
    });
    let names: Vec<_> = places.iter().map(|place| place.lock().unwrap().name()).collect();
    assert_eq!(names, ["main", "io1", "main"]);
    assert_eq!(until.read().unwrap(), 1, "the event is left as it was");
}

#[test]
fn a_device_that_panics_ends_every_loop() {
    let (mut builder, machine) = builder();
    builder.io_threads(NonZeroUsize::new(2).unwrap()).unwrap();
    builder.attach("quiet", Place::default()).unwrap();
    builder.attach("loud", Place { panics: true, ..Place::default() }).unwrap();
    let mut board = builder.freeze().unwrap();
    let until = EventFd::new(0).unwrap();
    assert!(machine.ring(IoAddr::Mmio(0xc000_1000), 1));
    let served = std::panic::catch_unwind(AssertUnwindSafe(|| board.serve(&until)));
    assert!(served.is_err());
}

#[test]
fn a_board_can_be_served_again() {
    let (mut board, _, _) = board_with_bell();
    let until = EventFd::new(0).unwrap();
    until.write(1).unwrap();
    board.serve(&until).unwrap();
    board.serve(&until).unwrap();
}

#[test]
fn state_is_saved_and_restored_by_name() {
    let (mut board, bell, _) = board_with_bell();
    bell.lock().unwrap().rung = 3;
    let mut snapshot = Snapshot::new();
    board.save(&mut snapshot).unwrap();
    bell.lock().unwrap().rung = 0;
    board.restore(&mut snapshot).unwrap();
    assert_eq!(bell.lock().unwrap().rung, 3);
    snapshot.finish().unwrap();
    assert!(board.restore(&mut Snapshot::new()).is_err());
}

#[test]
fn two_devices_of_one_name_are_refused() {
    let (mut builder, _) = builder();
    builder.attach("bell", Bell::at(0x10)).unwrap();
    let error = builder.attach("bell", Bell::at(0x20)).unwrap_err();
    assert!(matches!(error, BoardError::Attach { source: AttachError::NameTaken(_), .. }));
}

#[test]
fn two_devices_on_one_port_are_refused_by_name() {
    let (mut builder, _) = builder();
    builder.attach("left", Bell::at(0x10)).unwrap();
    builder.attach("right", Bell::at(0x10)).unwrap();
    let BoardError::Pio(conflicts) = builder.freeze().unwrap_err() else { panic!("no conflict") };
    assert_eq!(
        conflicts.to_string(),
        "port range 0x10-0x10 of `right` overlaps 0x10-0x10 of `left`"
    );
}
