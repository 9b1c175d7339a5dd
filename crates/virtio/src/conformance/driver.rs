//! A driver for tests: registers through the buses, rings in guest RAM, events through an event
//! manager.

use std::sync::Arc;

use bus::Buses;
use device::{Attach, FakeWiring, Node, PciFunction};
use memory::{Bytes, GuestAddress, GuestMemory};
use snapshot::Section;

use super::{
    machine::Machine,
    probe::{self, DATA},
    queue::Queue,
    register::{Half, Place, Register},
};
use crate::{feature, status};

/// How often events may follow from events before the device counts as restless.
const REST: usize = 10_000;
/// Size of `FakeWiring`'s RAM, bytes.
const RAM: usize = 1 << 20;
/// The steps of initialization, without the first and the last.
const AGREED: u8 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;

/// A virtio driver without a guest. It attaches a device to a machine of its own, by MMIO or to a PCI
/// bus, whichever transport the device is on, finds it there as a driver does, and drives it by what it
/// found: buses, doorbells, events, interrupts. Methods panic where a conforming device gives no reason
/// to.
pub struct Driver {
    pub(super) machine: Machine,
    pub(super) place: Place,
    /// The queues, as the driver sees them.
    pub queues: Vec<Queue>,
}

impl Driver {
    /// Attaches `device` to a machine of its own.
    ///
    /// # Panics
    /// It cannot be attached, or announces no registers.
    pub fn new<A: Attach>(device: A) -> Self {
        Self::with_handle(device).0
    }

    /// [`new`](Self::new), and what the device gives to its owner.
    ///
    /// # Panics
    /// It cannot be attached, or announces no registers.
    pub fn with_handle<A: Attach>(device: A) -> (Self, A::Handle) {
        Self::beside(device, Vec::new())
    }

    /// As [`with_handle`](Self::with_handle), with `others` behind the device on its PCI bus.
    pub(super) fn beside<A: Attach>(
        device: A,
        others: Vec<Arc<dyn PciFunction>>,
    ) -> (Self, A::Handle) {
        let (machine, handle) = Machine::new(device, others);
        let node = machine.wiring.nodes.iter().find_map(|node| match node {
            Node::VirtioMmio { base, gsi, .. } => Some(Place::Mmio { base: *base, gsi: *gsi }),
            _ => None,
        });
        let place = node.unwrap_or_else(|| Place::Pci(probe::find(&machine)));
        let mut driver = Self { machine, place, queues: Vec::new() };
        driver.find_queues();
        (driver, handle)
    }

    fn find_queues(&mut self) {
        for index in 0.. {
            self.set(Register::QueueSelect, index);
            let max = u16::try_from(self.get(Register::QueueMax)).ok();
            let Some(max) = max.filter(|max| *max > 0) else { break };
            self.queues.push(Queue::new(self.memory().clone(), index, max));
        }
        self.set(Register::QueueSelect, 0);
    }

    /// Guest RAM: 1 MiB from address 0 on.
    pub fn memory(&self) -> &GuestMemory {
        &self.machine.memory
    }

    /// The buses, as vCPUs share them.
    pub fn buses(&self) -> &Arc<Buses> {
        &self.machine.buses
    }

    /// The address of the registers: of the window of MMIO, or of the BAR.
    pub fn base(&self) -> u64 {
        match &self.place {
            Place::Mmio { base, .. } => *base,
            Place::Pci(function) => function.bar,
        }
    }

    /// The wiring, of which buses were taken already.
    pub fn wiring(&self) -> &FakeWiring {
        &self.machine.wiring
    }

    /// The device type, as the transport says it.
    pub fn id(&self) -> u32 {
        match &self.place {
            Place::Mmio { .. } => self.read(0x008),
            Place::Pci(function) => function.id,
        }
    }

    /// Reads four bytes at `offset` from [`base`](Self::base) on.
    pub fn read(&self, offset: u64) -> u32 {
        probe::get(self.buses(), self.base() + offset, 4)
    }

    /// Writes four bytes at `offset` from [`base`](Self::base) on.
    pub fn write(&self, offset: u64, value: u32) {
        probe::set(self.buses(), self.base() + offset, 4, value);
    }

    /// Guest physical address of a register, and its width in bytes.
    pub fn register(&self, register: Register) -> (u64, usize) {
        self.place.register(register)
    }

    /// Guest physical address of the register that notifies queue number `queue`.
    pub fn doorbell(&self, queue: u32) -> u64 {
        match &self.place {
            Place::Mmio { base, .. } => base + 0x050,
            // `queue_notify_off` is the queue's number, which is checked elsewhere.
            Place::Pci(function) => {
                function.notify + u64::from(function.notify_step) * u64::from(queue)
            }
        }
    }

    /// Reads a register.
    pub fn get(&self, register: Register) -> u32 {
        let (at, width) = self.place.register(register);
        probe::get(self.buses(), at, width)
    }

    /// Writes a register, as many bits as it has.
    pub fn set(&self, register: Register, value: u32) {
        let (at, width) = self.place.register(register);
        probe::set(self.buses(), at, width, value);
    }

    fn config(&self, offset: u64) -> Option<u64> {
        match &self.place {
            Place::Mmio { base, .. } => Some(base + 0x100 + offset),
            Place::Pci(function) => Some(function.config? + offset),
        }
    }

    /// Reads the configuration space.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        if let Some(at) = self.config(offset) {
            self.buses().mmio.read(at, data);
        }
    }

    /// Writes the configuration space.
    pub fn write_config(&self, offset: u64, data: &[u8]) {
        if let Some(at) = self.config(offset) {
            self.buses().mmio.write(at, data);
        }
    }

    /// The configuration generation.
    pub fn generation(&self) -> u32 {
        self.get(Register::Generation)
    }

    /// The device status.
    pub fn status(&self) -> u8 {
        u8::try_from(self.get(Register::Status)).expect("the status has 8 bits")
    }

    /// Writes the device status, and reads it back.
    pub fn set_status(&self, value: u8) -> u8 {
        self.set(Register::Status, value.into());
        self.status()
    }

    /// Whether the device asks for a reset.
    pub fn is_broken(&self) -> bool {
        self.status() & status::NEEDS_RESET != 0
    }

    /// What the device offers.
    pub fn offered(&self) -> u64 {
        let word = |index| {
            self.set(Register::DeviceFeaturesSelect, index);
            u64::from(self.get(Register::DeviceFeatures))
        };
        word(0) | word(1) << 32
    }

    /// Writes the features that the driver accepts.
    pub fn accept(&self, features: u64) {
        for (index, bits) in [(0, features), (1, features >> 32)] {
            self.set(Register::DriverFeaturesSelect, index);
            self.set(
                Register::DriverFeatures,
                u32::try_from(bits & u64::from(u32::MAX)).expect("32 bits"),
            );
        }
    }

    /// Resets the device and everything the driver knows of it.
    pub fn reset(&mut self) {
        self.set_status(0);
        self.queues.iter_mut().for_each(Queue::reset);
    }

    /// From reset to agreed features: whether the device agrees. `VERSION_1` is always among them.
    pub fn negotiate(&mut self, features: u64) -> bool {
        self.reset();
        self.set_status(status::ACKNOWLEDGE);
        self.set_status(status::ACKNOWLEDGE | status::DRIVER);
        self.choose_config_vector();
        self.accept(features | feature::VERSION_1);
        self.set_status(AGREED) == AGREED
    }

    /// From reset to a working device with every queue in use.
    ///
    /// # Panics
    /// The device does not agree to `features`, or to a queue.
    pub fn start(&mut self, features: u64) {
        assert!(self.negotiate(features), "the device refuses the features {features:#x}");
        let events = features & feature::EVENT_IDX != 0;
        for index in 0..self.queues.len() {
            self.queues[index].events = events;
            assert!(self.enable(index), "the device refuses queue {index}");
        }
        let status = self.set_status(AGREED | status::DRIVER_OK);
        assert_eq!(status, AGREED | status::DRIVER_OK, "the device does not start");
        self.run();
    }

    /// Tells the device where queue number `index` is, and puts it into use: whether it is.
    pub fn enable(&self, index: usize) -> bool {
        let queue = &self.queues[index];
        self.set(Register::QueueSelect, queue.index);
        self.set(Register::QueueSize, queue.size);
        let areas = [Register::Descriptors, Register::Driver, Register::Device];
        for (area, addr) in areas.into_iter().zip(queue.places) {
            let low = u32::try_from(addr & u64::from(u32::MAX)).expect("32 bits");
            self.set(area(Half::Low), low);
            self.set(area(Half::High), u32::try_from(addr >> 32).expect("32 bits"));
        }
        self.choose_queue_vector(queue.index);
        self.set(Register::QueueEnable, 1);
        self.get(Register::QueueEnable) == 1
    }

    /// Resets queue number `index` alone: whether it is out of use.
    pub fn reset_queue(&mut self, index: usize) -> bool {
        self.set(Register::QueueSelect, self.queues[index].index);
        self.set(Register::QueueReset, 1);
        self.queues[index].reset();
        self.get(Register::QueueReset) == 0 && self.get(Register::QueueEnable) == 0
    }

    /// On PCI: the configuration has vector 0, and each queue the next, as long as there are some.
    fn choose_config_vector(&self) {
        if let Place::Pci(function) = &self.place {
            probe::set(self.buses(), function.common + 0x10, 2, 0);
            let chosen = probe::get(self.buses(), function.common + 0x10, 2);
            assert_eq!(chosen, 0, "the device takes a vector for its configuration");
        }
    }

    fn choose_queue_vector(&self, queue: u32) {
        if let Place::Pci(function) = &self.place {
            let vector = function.vector_of(queue);
            probe::set(self.buses(), function.common + 0x1a, 2, vector);
            let chosen = probe::get(self.buses(), function.common + 0x1a, 2);
            assert_eq!(chosen, vector, "the device takes a vector for queue {queue}");
        }
    }

    /// Notifies queue number `index` as the host does: by its doorbell, without an exit.
    pub fn kick(&self, index: usize) {
        let queue = self.queues[index].index;
        let at = self.doorbell(queue);
        assert!(self.machine.ring(at, queue), "queue {queue} has a doorbell at {at:#x}");
    }

    /// Notifies queue number `queue`, which need not be there, by a register.
    pub fn notify(&self, queue: u32) {
        probe::set(self.buses(), self.doorbell(queue), 4, queue);
    }

    /// Notifies queue number `index` and lets the device work.
    pub fn kick_and_run(&mut self, index: usize) {
        self.kick(index);
        self.run();
    }

    /// Lets the device work until nothing is left to do.
    ///
    /// # Panics
    /// It never comes to rest.
    pub fn run(&mut self) {
        for _ in 0..REST {
            if self.turn() == 0 {
                return;
            }
        }
        assert_eq!(REST, 0, "the device does not come to rest");
    }

    /// Lets the device handle the events that are there now: how many there were.
    pub fn turn(&mut self) -> usize {
        self.machine.turn()
    }

    /// How often the device has interrupted, by line or by message.
    pub fn raised(&self) -> u64 {
        match &self.place {
            Place::Mmio { gsi, .. } => self.wiring().raised(*gsi).expect("the device has a line"),
            Place::Pci(_) => self.machine.host.delivered(),
        }
    }

    /// How often queue number `index` has interrupted, as far as the transport tells queues apart.
    pub fn raised_for(&self, index: usize) -> u64 {
        match &self.place {
            Place::Mmio { .. } => self.raised(),
            Place::Pci(function) => {
                let vector = function.vector_of(self.queues[index].index);
                self.machine.host.delivered_as(DATA + vector)
            }
        }
    }

    /// Reads and acknowledges the interrupt status.
    pub fn acknowledge(&self) -> u32 {
        match &self.place {
            Place::Mmio { .. } => {
                let bits = self.read(0x060);
                self.write(0x064, bits);
                bits
            }
            Place::Pci(function) => probe::get(self.buses(), function.isr, 1),
        }
    }

    /// What a snapshot holds of the device.
    pub fn save(&self) -> Vec<Section> {
        self.machine.save()
    }

    /// The same driver on another machine, whose device is `device` with the state of this one.
    ///
    /// # Panics
    /// The device does not take the state.
    pub fn transplant<A: Attach>(self, device: A) -> Self {
        let Self { machine: old, place, queues } = self;
        let saved = old.save();
        let (machine, _) = Machine::new(device, Vec::new());
        let mut ram = vec![0; RAM];
        old.memory.read_slice(&mut ram, GuestAddress(0)).expect("RAM is a mebibyte");
        machine.memory.write_slice(&ram, GuestAddress(0)).expect("RAM is a mebibyte");
        machine.restore(&saved);
        let memory = machine.memory.clone();
        let queues = queues.into_iter().map(|queue| queue.moved(memory.clone())).collect();
        Self { machine, place, queues }
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("place", &self.place)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}
