//! A machine around one device: no hypervisor, no privileges, no threads.

use std::sync::{Arc, Mutex, PoisonError};

use bus::{BusDevice, Buses, IrqLine, Mmio, Pio, Range};
use device::{
    Attach, Bdf, Component, EventFd, FakeWiring, IoAddr, Irq, Node, PciFunction, Subscriber,
    WireError, Wiring,
};
use event_manager::{EventManager, SubscriberOps};
use memory::GuestMemory;
use pci::{Root, RootComplex};
use snapshot::Section;

use super::host::Host;

/// Buses, events and RAM. The machine has a PCI bus if the device asks for one: a real one, on a host
/// that counts.
pub(super) struct Machine {
    pub(super) wiring: FakeWiring,
    pub(super) host: Arc<Host>,
    pub(super) buses: Arc<Buses>,
    pub(super) memory: GuestMemory,
    events: EventManager<Subscriber>,
}

impl Machine {
    /// A machine with `device`, and then `others` on its PCI bus.
    pub(super) fn new<A: Attach>(
        device: A,
        others: Vec<Arc<dyn PciFunction>>,
    ) -> (Self, A::Handle) {
        let wiring = FakeWiring::new().expect("the host gives a mebibyte");
        let mut slot = Slot { wiring, host: Arc::default(), root: None };
        let handle = device.attach(&mut slot).expect("the device can be attached");
        for other in others {
            slot.pci(other).expect("the bus has room for two");
        }
        let Slot { mut wiring, host, .. } = slot;
        let buses = wiring.freeze().expect("the device's claims do not overlap");
        let mut events = EventManager::new().expect("the host gives an event loop");
        for subscriber in &wiring.subscribers {
            events.add_subscriber(Arc::clone(subscriber));
        }
        let memory = wiring.memory();
        (Self { wiring, host, buses: Arc::new(buses), memory, events }, handle)
    }

    /// Handles the events that are there now: how many there were.
    pub(super) fn turn(&mut self) -> usize {
        self.events.run_with_timeout(0).expect("the event loop runs")
    }

    pub(super) fn save(&self) -> Vec<Section> {
        let components = self.wiring.components.iter();
        components.map(|each| lock(each).save_section().expect("the device is saved")).collect()
    }

    pub(super) fn restore(&self, saved: &[Section]) {
        for (component, section) in self.wiring.components.iter().zip(saved.iter().cloned()) {
            lock(component).restore_section(section).expect("the device takes its state back");
        }
        let now = without_pending(&self.save());
        assert_eq!(now, without_pending(saved), "a restored device saves something else");
    }

    /// Signals the doorbell at `at` for `value`, as a host does on the guest's write: whether there is
    /// one.
    pub(super) fn ring(&self, at: u64, value: u32) -> bool {
        let place = (IoAddr::Mmio(at), Some(value));
        let bells = &self.wiring.doorbells;
        match bells.iter().find(|bell| (bell.0, bell.1) == place) {
            Some(bell) => bell.2.write(1).is_ok(),
            None => self.host.ring(at),
        }
    }
}

/// What was saved, without the pending bits of MSI-X: what was pending in the device is raised again
/// after a restore, and may meet a mask.
fn without_pending(saved: &[Section]) -> Vec<Section> {
    let mut sections = saved.to_vec();
    let roots = sections.iter_mut().filter_map(|section| section.state.get_mut("functions"));
    for function in roots.filter_map(|functions| functions.as_array_mut()).flatten() {
        if let Some(pending) = function.pointer_mut("/msix/pending") {
            *pending = ().into();
        }
    }
    sections
}

fn lock<'a>(
    component: &'a Arc<Mutex<dyn Component>>,
) -> std::sync::MutexGuard<'a, dyn Component + 'static> {
    component.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine while its device is attached.
struct Slot {
    wiring: FakeWiring,
    host: Arc<Host>,
    root: Option<Root>,
}

impl Wiring for Slot {
    fn memory(&self) -> GuestMemory {
        self.wiring.memory()
    }

    fn pio(&mut self, at: Range<Pio>, device: Arc<dyn BusDevice>) {
        self.wiring.pio(at, device);
    }

    fn mmio(&mut self, at: Range<Mmio>, device: Arc<dyn BusDevice>) {
        self.wiring.mmio(at, device);
    }

    fn window(&mut self, len: u64) -> Result<Range<Mmio>, WireError> {
        self.wiring.window(len)
    }

    fn irq(&mut self, want: Irq) -> Result<(u32, IrqLine), WireError> {
        self.wiring.irq(want)
    }

    fn doorbell(&mut self, at: IoAddr, value: Option<u32>) -> Result<EventFd, WireError> {
        self.wiring.doorbell(at, value)
    }

    fn poll(&mut self, subscriber: Subscriber) {
        self.wiring.poll(subscriber);
    }

    fn persist(&mut self, component: Arc<Mutex<dyn Component>>) {
        self.wiring.persist(component);
    }

    fn announce(&mut self, node: Node) {
        self.wiring.announce(node);
    }

    fn pci(&mut self, function: Arc<dyn PciFunction>) -> Result<Bdf, WireError> {
        if self.root.is_none() {
            let root = RootComplex::new(self.host.clone()).attach(&mut self.wiring);
            self.root = Some(root.map_err(|error| WireError::Pci(error.into()))?);
        }
        let root = self.root.as_ref().ok_or(WireError::NoPci)?;
        root.insert(function).map_err(|error| WireError::Pci(error.into()))
    }
}
