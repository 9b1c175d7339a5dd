//! A driver for tests: registers through the buses, rings in guest RAM, events through an event
//! manager.

use std::sync::{Arc, Mutex, PoisonError};

use bus::Buses;
use device::{Attach, Component, FakeWiring, IoAddr, Node, Subscriber, Wiring};
use event_manager::{EventManager, SubscriberOps};
use memory::{Bytes, GuestAddress, GuestMemory};
use snapshot::Section;

use super::queue::Queue;
use crate::{feature, status};

/// How often events may follow from events before the device counts as restless.
const REST: usize = 10_000;
/// Size of `FakeWiring`'s RAM, bytes.
const RAM: usize = 1 << 20;
/// The steps of initialization, without the first and the last.
const AGREED: u8 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;

/// A virtio driver without a guest. It attaches a device to a [`FakeWiring`] and drives it by what
/// the device claimed there: buses, doorbells, events, one interrupt line. Methods panic where a
/// conforming device gives no reason to.
pub struct Driver {
    wiring: FakeWiring,
    buses: Arc<Buses>,
    memory: GuestMemory,
    events: EventManager<Subscriber>,
    base: u64,
    gsi: u32,
    /// The queues, as the driver sees them.
    pub queues: Vec<Queue>,
}

impl Driver {
    /// Attaches `device` to wiring of its own.
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
        let mut wiring = FakeWiring::new().expect("the host gives a mebibyte");
        let handle = wiring.attach(device).expect("the device can be attached");
        let buses = wiring.freeze().expect("the device's claims do not overlap");
        let buses = Arc::new(buses);
        let node = wiring.nodes.iter().find_map(|node| match node {
            Node::VirtioMmio { base, gsi, .. } => Some((*base, *gsi)),
            _ => None,
        });
        let (base, gsi) = node.expect("the device announces its registers");
        let mut events = EventManager::new().expect("the host gives an event loop");
        for subscriber in &wiring.subscribers {
            events.add_subscriber(Arc::clone(subscriber));
        }
        let memory = wiring.memory();
        let mut driver = Self { wiring, buses, memory, events, base, gsi, queues: Vec::new() };
        driver.find_queues();
        (driver, handle)
    }

    fn find_queues(&mut self) {
        for index in 0.. {
            self.write(0x030, index);
            let Some(max) = u16::try_from(self.read(0x034)).ok().filter(|max| *max > 0) else {
                break;
            };
            self.queues.push(Queue::new(self.memory.clone(), index, max));
        }
        self.write(0x030, 0);
    }

    /// Guest RAM: 1 MiB from address 0 on.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The buses, as vCPUs share them.
    pub fn buses(&self) -> &Arc<Buses> {
        &self.buses
    }

    /// The address of the registers.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The wiring, of which buses were taken already.
    pub fn wiring(&self) -> &FakeWiring {
        &self.wiring
    }

    /// Reads the register at `offset`.
    pub fn read(&self, offset: u64) -> u32 {
        let mut data = [0xff; 4];
        self.buses.mmio.read(self.base + offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Writes the register at `offset`.
    pub fn write(&self, offset: u64, value: u32) {
        self.buses.mmio.write(self.base + offset, &value.to_le_bytes());
    }

    /// Reads the configuration space.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.buses.mmio.read(self.base + 0x100 + offset, data);
    }

    /// Writes the configuration space.
    pub fn write_config(&self, offset: u64, data: &[u8]) {
        self.buses.mmio.write(self.base + 0x100 + offset, data);
    }

    /// The configuration generation.
    pub fn generation(&self) -> u32 {
        self.read(0x0fc)
    }

    /// The device status.
    pub fn status(&self) -> u8 {
        u8::try_from(self.read(0x070)).expect("the status has 8 bits")
    }

    /// Writes the device status, and reads it back.
    pub fn set_status(&self, value: u8) -> u8 {
        self.write(0x070, value.into());
        self.status()
    }

    /// Whether the device asks for a reset.
    pub fn is_broken(&self) -> bool {
        self.status() & status::NEEDS_RESET != 0
    }

    /// What the device offers.
    pub fn offered(&self) -> u64 {
        let word = |index| {
            self.write(0x014, index);
            u64::from(self.read(0x010))
        };
        word(0) | word(1) << 32
    }

    /// Writes the features that the driver accepts.
    pub fn accept(&self, features: u64) {
        for (index, bits) in [(0, features), (1, features >> 32)] {
            self.write(0x024, index);
            self.write(0x020, u32::try_from(bits & u64::from(u32::MAX)).expect("32 bits"));
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
        let [descriptors, driver, device] = queue.places;
        self.write(0x030, queue.index);
        self.write(0x038, queue.size);
        for (register, addr) in [(0x080, descriptors), (0x090, driver), (0x0a0, device)] {
            self.write(register, u32::try_from(addr & u64::from(u32::MAX)).expect("32 bits"));
            self.write(register + 4, u32::try_from(addr >> 32).expect("32 bits"));
        }
        self.write(0x044, 1);
        self.read(0x044) == 1
    }

    /// Resets queue number `index` alone: whether it is out of use.
    pub fn reset_queue(&mut self, index: usize) -> bool {
        self.write(0x030, self.queues[index].index);
        self.write(0x0c0, 1);
        self.queues[index].reset();
        self.read(0x0c0) == 0 && self.read(0x044) == 0
    }

    /// Notifies queue number `index` as the host does: by its doorbell, without an exit.
    pub fn kick(&self, index: usize) {
        let at = (IoAddr::Mmio(self.base + 0x50), Some(self.queues[index].index));
        let bell = self.wiring.doorbells.iter().find(|bell| (bell.0, bell.1) == at);
        bell.expect("each queue has a doorbell").2.write(1).expect("doorbells can be rung");
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
        self.events.run_with_timeout(0).expect("the event loop runs")
    }

    /// How often the device has raised its interrupt.
    pub fn raised(&self) -> u64 {
        self.wiring.raised(self.gsi).expect("the device has a line")
    }

    /// Reads and acknowledges the interrupt status.
    pub fn acknowledge(&self) -> u32 {
        let bits = self.read(0x060);
        self.write(0x064, bits);
        bits
    }

    /// What a snapshot holds of the device.
    pub fn save(&self) -> Vec<Section> {
        let components = self.wiring.components.iter();
        components.map(|each| lock(each).save_section().expect("the device is saved")).collect()
    }

    /// The same driver on another machine, whose device is `device` with the state of this one.
    ///
    /// # Panics
    /// The device does not take the state.
    pub fn transplant<A: Attach>(self, device: A) -> Self {
        let saved = self.save();
        let mut other = Self::new(device);
        let mut ram = vec![0; RAM];
        self.memory.read_slice(&mut ram, GuestAddress(0)).expect("RAM is a mebibyte");
        other.memory.write_slice(&ram, GuestAddress(0)).expect("RAM is a mebibyte");
        let memory = other.memory.clone();
        other.queues = self.queues.into_iter().map(|queue| queue.moved(memory.clone())).collect();
        for (component, section) in other.wiring.components.iter().zip(saved.iter().cloned()) {
            lock(component).restore_section(section).expect("the device takes its state back");
        }
        assert_eq!(other.save(), saved, "a restored device saves something else");
        other
    }
}

fn lock<'a>(
    component: &'a Arc<Mutex<dyn Component>>,
) -> std::sync::MutexGuard<'a, dyn Component + 'static> {
    component.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("wiring", &self.wiring)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}
