//! The BAR and the command register of a device on PCI.

use std::sync::Arc;

use bus::{BusBuilder, Buses, Mmio, Pio, Range};
use device::{
    AccessError, Action, Bar, BarKind, BusDevice, Identity, PciFunction, conformance as accesses,
};

use super::{
    Driver,
    machine::Machine,
    notification::return_one,
    probe::{self, Function, ON},
    queue::BUFFERS,
    register::Place,
};
use crate::{Device, PciTransport, status};

/// What every byte of the neighbour reads as.
const NEIGHBOUR: u32 = 7;
/// How often the BAR goes to each place and back.
const MOVES: usize = 16;
/// How many rounds of random accesses the device must come back from.
const ROUNDS: u64 = 64;
const RUNNING: u8 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
const MEMORY: u32 = 0b010;
const BUS_MASTER: u32 = 0b100;
/// The fields of the common configuration that are not four bytes wide, as first, last and width.
const NARROW: [(u64, u64, usize); 4] =
    [(0x10, 0x13, 2), (0x14, 0x15, 1), (0x16, 0x1f, 2), (0x38, 0x3f, 2)];
const COMMON_LEN: u64 = 0x40;

/// Another function on the bus.
struct Neighbour;

impl PciFunction for Neighbour {
    fn identity(&self) -> Identity {
        Identity { vendor: 0x1234, device: 1, ..Identity::default() }
    }

    fn bars(&self) -> Vec<Bar> {
        vec![Bar { index: 0, kind: BarKind::Memory32, size: 0x1000 }]
    }

    fn bar_read(&self, _: u8, _: u64, data: &mut [u8]) -> Result<(), AccessError> {
        data.fill(NEIGHBOUR.to_le_bytes()[0]);
        Ok(())
    }
}

impl Driver {
    /// The function, of a device on PCI.
    pub(super) fn function(&self) -> &Function {
        let function = match &self.place {
            Place::Pci(function) => Some(function),
            Place::Mmio { .. } => None,
        };
        function.expect("the device is on PCI")
    }

    fn move_to(&mut self, at: u64) {
        if let Place::Pci(function) = &mut self.place {
            function.move_to(&self.machine.buses, at);
        }
    }

    fn listening(&self) -> usize {
        self.machine.host.listening().len()
    }
}

/// The BAR goes onto that of another function, off the map and back while requests are under way: the
/// other function goes on answering, the requests are served, and at home everything is as it was.
pub fn follows_its_bar<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    let (mut driver, _) = Driver::beside(make(), vec![Arc::new(Neighbour)]);
    driver.start(0);
    let (home, size, queues) = (driver.base(), driver.function().bar_size, driver.queues.len());
    let neighbour = switch_on_neighbour(&driver);
    assert_eq!(driver.listening(), queues, "each queue has a doorbell");
    for away in [neighbour & !(size - 1), 0, 0x1_0000_0000 - size, home + size] {
        for _ in 0..MOVES {
            let head = driver.queues[0].offer(&[(BUFFERS, 0, false)]);
            driver.kick(0);
            driver.move_to(away);
            assert_eq!(probe::get(driver.buses(), neighbour, 1), NEIGHBOUR, "BAR at {away:#x}");
            let there = probe::get(driver.buses(), home + size - 4, 4);
            assert_eq!(there, u32::MAX, "the BAR answers where it was");
            assert_eq!(driver.listening(), 0, "a doorbell stays where the BAR was");
            driver.run();
            let used = driver.queues[0].used();
            assert_eq!(used, [(head.into(), 0)], "the request is served while the BAR is away");
            driver.move_to(home);
            assert_eq!(driver.status(), RUNNING, "the device is as it was");
            assert_eq!(driver.listening(), queues, "the doorbells are back");
        }
    }
    return_one(&mut driver, 0);
}

fn switch_on_neighbour(driver: &Driver) -> u64 {
    let buses = driver.buses();
    let space = driver.function().ecam + (1 << 15);
    assert_eq!(probe::get(buses, space, 2), 0x1234, "the neighbour is next");
    probe::set(buses, space + 4, 2, MEMORY);
    u64::from(probe::get(buses, space + 0x10, 4))
}

/// Without memory space nothing answers; without bus mastering no queue is served and nothing
/// interrupts. Both are made up for when they come back.
pub fn obeys_its_command_register<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    let mut driver = Driver::new(make());
    driver.start(0);
    let function = driver.function().clone();
    let (buses, queues) = (driver.buses().clone(), driver.queues.len());
    function.command(&buses, BUS_MASTER);
    assert_eq!((driver.status(), driver.listening()), (0xff, 0), "memory space is off");
    function.command(&buses, ON);
    assert_eq!((driver.status(), driver.listening()), (RUNNING, queues), "memory space is on");

    for index in 0..queues {
        let raised = driver.raised();
        function.command(&buses, MEMORY);
        let head = driver.queues[index].offer(&[(BUFFERS, 0, false)]);
        driver.kick_and_run(index);
        assert_eq!(
            driver.queues[index].used(),
            [],
            "queue {index} is served without bus mastering"
        );
        assert_eq!(driver.raised(), raised, "queue {index} interrupts without bus mastering");
        function.command(&buses, ON);
        driver.run();
        assert_eq!(driver.queues[index].used(), [(head.into(), 0)], "queue {index} is forgotten");
        assert_eq!(driver.raised(), raised + 1, "queue {index} interrupts with bus mastering");
    }
    // What is pending is raised again after a restore, and would be held back here.
    driver.acknowledge();
    function.command(&buses, MEMORY);
    driver = driver.transplant(make());
    driver.queues[0].offer(&[(BUFFERS, 0, false)]);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [], "a restored device forgets that it may not");
}

/// What is not a whole field changes nothing and reads as all ones, nor does what lies behind a
/// structure.
pub fn keeps_its_widths<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    let mut driver = Driver::new(make());
    driver.start(driver.offered());
    let function = driver.function().clone();
    let before = driver.save();
    let check = |at: u64, width: usize| {
        let mut data = vec![0x5a; width];
        driver.buses().mmio.write(at, &data);
        driver.buses().mmio.read(at, &mut data);
        assert_eq!(data, vec![0xff; width], "{width} bytes at {at:#x} of {function:?} answer");
    };
    for offset in 0..COMMON_LEN {
        for width in [1, 2, 3, 4, 8].into_iter().filter(|width| !is_field(offset, *width)) {
            check(function.common + offset, width);
        }
    }
    for (_, first, len) in &function.structures {
        let end = function.bar + u64::from(*first) + u64::from(*len);
        [1, 2, 4, 8].into_iter().for_each(|width| check(end, width));
    }
    check(function.isr, 2);
    check(function.isr, 4);
    check(function.table + 16 * u64::from(function.vectors), 4);
    check(function.table + 1, 4);
    check(function.table, 2);
    assert_eq!(driver.save(), before, "an access that is none changes the device");
}

fn is_field(offset: u64, width: usize) -> bool {
    let narrow = NARROW.iter().find(|(first, last, _)| (*first..=*last).contains(&offset));
    let own = narrow.map_or(4, |(_, _, width)| *width);
    width == own && u64::try_from(own).is_ok_and(|own| offset.is_multiple_of(own))
}

/// Any access at any width to the BAR and to configuration space is survived, what is saved is restored,
/// and garbage is refused: as [`device::conformance::bus_device`], for a BAR.
pub(super) fn takes_every_access(machine: &Machine, function: &Function) {
    let part =
        |(_, first, len): &(u8, u32, u32)| (function.bar + u64::from(*first), u64::from(*len));
    let mut parts: Vec<(u64, u64)> = function.structures.iter().map(part).collect();
    parts.push((function.table, 16 * u64::from(function.vectors)));
    parts.push((function.pba, u64::from(function.vectors).div_ceil(64) * 8));
    accesses::takes_every_access(&view(machine, &parts));
    accesses::comes_back_from_a_snapshot(&machine.wiring);
    accesses::refuses_garbage(&machine.wiring);

    let bar = (function.bar, function.bar_size);
    for seed in 1..=ROUNDS {
        // At last configuration space too, which moves the BAR away sooner or later.
        let parts = [bar, (function.ecam, 0x100)];
        let known = if seed < ROUNDS / 2 { 1 } else { 2 };
        accesses::takes_random_accesses(&view(machine, &parts[..known]), seed);
        accesses::comes_back_from_a_snapshot(&machine.wiring);
    }
}

/// The parts of the machine's memory, each by itself.
fn view(machine: &Machine, parts: &[(u64, u64)]) -> Buses {
    let mut mmio = BusBuilder::<Mmio>::new();
    for &(at, len) in parts.iter().filter(|(_, len)| *len > 0) {
        let range = Range::new(at, len).expect("a part is a range");
        mmio.claim("part", range, Arc::new(Part { buses: Arc::clone(&machine.buses), at }));
    }
    let mmio = mmio.freeze().expect("parts do not overlap");
    Buses { pio: BusBuilder::<Pio>::new().freeze().expect("nothing overlaps"), mmio }
}

struct Part {
    buses: Arc<Buses>,
    at: u64,
}

impl BusDevice for Part {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        self.buses.mmio.read(self.at + offset, data);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        Ok(self.buses.mmio.write(self.at + offset, data))
    }
}
