//! The board while devices are attached.

use std::{
    fmt, io,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use arch::{IntxLines, IoAddr, Layout, Node};
use bus::{BusBuilder, BusDevice, Buses, Conflicts, IrqLine, Mmio, Pio, Range};
use device::{
    Attach, AttachError, Bdf, Component, EventFd, Irq, PciFunction, Subscriber, WireError, Wiring,
};
use hypervisor::Vm;
use memory::GuestMemory;
use pci::{Root, RootComplex};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

use crate::{
    Board, Hotplug, ServeError,
    alloc::{Lines, Window},
    interrupts::Interrupts,
    registry::Registry,
    serve::Events,
};

/// Attaches devices to a machine, one call each, then [freezes](Self::freeze).
pub struct BoardBuilder {
    vm: Arc<dyn Vm>,
    memory: GuestMemory,
    pio: BusBuilder<Pio>,
    mmio: BusBuilder<Mmio>,
    window: Window,
    lines: Lines,
    registry: Arc<Registry>,
    events: Vec<Events>,
    nodes: Vec<Node>,
    pci: Option<Root>,
}

/// The name of the PCI bus among the devices.
const PCI: &str = "pci";
/// The ports that PCI devices may have, above all fixed ones.
const PCI_PORTS: (u16, u16) = (0xc000, 0x4000);

/// Why a board could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// The host gives no event loop.
    #[error("the host gives no event loop for the devices")]
    Events(#[from] ServeError),
    /// A device was not attached.
    #[error("device `{name}` cannot be attached")]
    Attach {
        /// The device's name.
        name: String,
        /// Why.
        source: AttachError,
    },
    /// Devices claim the same ports.
    #[error("devices claim the same ports; each port belongs to one device")]
    Pio(#[from] Conflicts<Pio>),
    /// Devices claim the same addresses.
    #[error("devices claim the same addresses; each address belongs to one device")]
    Mmio(#[from] Conflicts<Mmio>),
}

impl BoardBuilder {
    /// A board without devices for `vm`, whose RAM is `memory`.
    ///
    /// # Errors
    /// The host gives no event loop.
    pub fn new(vm: Arc<dyn Vm>, memory: GuestMemory, layout: &Layout) -> Result<Self, BoardError> {
        let mut board = Self {
            vm,
            memory,
            pio: BusBuilder::new(),
            mmio: BusBuilder::new(),
            window: Window::new(&layout.window),
            lines: Lines::new(layout.gsis.clone()),
            registry: Arc::default(),
            events: Vec::new(),
            nodes: Vec::new(),
            pci: None,
        };
        board.io_threads(NonZeroUsize::MIN)?;
        Ok(board)
    }

    /// Attaches `device` under `name`, which messages use and under which its state is saved.
    ///
    /// # Errors
    /// The name is taken, or the device does not get what it needs. What it had claimed before stays
    /// with its name: give up the builder.
    pub fn attach<A: Attach>(&mut self, name: &str, device: A) -> Result<A::Handle, BoardError> {
        let failed = |source| BoardError::Attach { name: name.to_owned(), source };
        let turn = self.registry.claim(name);
        let turn = turn.ok_or_else(|| failed(AttachError::NameTaken(name.to_owned())))?;
        device.attach(&mut Slot { board: self, name, turn }).map_err(failed)
    }

    /// Has `count` threads serve the devices that are attached from now on, in turn; one if this is
    /// not called. A device with all its queues is served by one thread.
    ///
    /// # Errors
    /// The host gives no more event loops.
    pub fn io_threads(&mut self, count: NonZeroUsize) -> Result<(), BoardError> {
        while self.events.len() < count.get() {
            let events = Events::new()?;
            self.registry.add_loop(events.inbox());
            self.events.push(events);
        }
        Ok(())
    }

    /// Gives the machine a PCI bus, for the devices that are attached from now on. It is a device itself,
    /// named `pci`, with 256 MiB of the device window and ports 0xc000 to 0xffff for its BARs; those of
    /// 64 bits may be in `mem64` as well, where there must be no RAM. Of the machine's interrupt lines it
    /// takes four for INTx and one for hot plug.
    ///
    /// # Errors
    /// There is one already, or the device window or the interrupt lines have no room for it.
    pub fn pci(&mut self, mem64: Option<Range<Mmio>>) -> Result<(), BoardError> {
        let failed = |source| BoardError::Attach { name: PCI.to_owned(), source };
        if self.pci.is_some() {
            return Err(failed(AttachError::NameTaken(PCI.to_owned())));
        }
        let (port, len) = PCI_PORTS;
        let ports = Range::new(port, len).map_err(|error| failed(error.into()))?;
        let mut line = || self.lines.take(Irq::Any, PCI).map_err(|error| failed(error.into()));
        let intx = IntxLines([line()?, line()?, line()?, line()?]);
        let host = Interrupts::new(Arc::clone(&self.vm), intx, &self.registry);
        let mut root = RootComplex::new(Arc::new(host)).io(ports);
        if let Some(window) = mem64 {
            root = root.mem64(window);
        }
        self.pci = Some(self.attach(PCI, root)?);
        Ok(())
    }

    /// Ends the attaching: the buses can no longer change, and every conflict among the claims is
    /// reported, before any guest code runs.
    ///
    /// # Errors
    /// Claims overlap.
    pub fn freeze(self) -> Result<Board, BoardError> {
        let buses = Buses { pio: self.pio.freeze()?, mmio: self.mmio.freeze()? };
        let (memory, registry) = (self.memory, self.registry);
        let hotplug =
            self.pci.map(|root| Hotplug { memory, registry: Arc::clone(&registry), root });
        Ok(Board::new(buses, self.nodes, self.events, (registry, hotplug)))
    }
}

impl fmt::Debug for BoardBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoardBuilder")
            .field("pio", &self.pio)
            .field("mmio", &self.mmio)
            .finish_non_exhaustive()
    }
}

/// What one device sees of the board while it is attached: claims are noted under its name.
struct Slot<'a> {
    board: &'a mut BoardBuilder,
    name: &'a str,
    turn: usize,
}

impl Wiring for Slot<'_> {
    fn memory(&self) -> GuestMemory {
        Arc::clone(&self.board.memory)
    }

    fn pio(&mut self, at: Range<Pio>, device: Arc<dyn BusDevice>) {
        self.board.pio.claim(self.name, at, device);
    }

    fn mmio(&mut self, at: Range<Mmio>, device: Arc<dyn BusDevice>) {
        self.board.mmio.claim(self.name, at, device);
    }

    fn window(&mut self, len: u64) -> Result<Range<Mmio>, WireError> {
        self.board.window.take(len)
    }

    fn irq(&mut self, want: Irq) -> Result<(u32, IrqLine), WireError> {
        let gsi = self.board.lines.take(want, self.name)?;
        let event = self.board.vm.lines().irqfd(gsi).map_err(refused)?;
        let raise = move || {
            let begin = trace::mark();
            let result = event.write(1);
            trace::record(trace::Kind::Interrupt, gsi.into(), begin);
            result
        };
        Ok((gsi, IrqLine::from_fn(raise)))
    }

    fn doorbell(&mut self, at: IoAddr, value: Option<u32>) -> Result<EventFd, WireError> {
        let what = || "an event between guest and device".to_owned();
        let refused = |source: io::Error| WireError::Host { what: what(), source: source.into() };
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(refused)?;
        let listening = self.board.vm.doorbells().listen(at, value, &event);
        listening.map_err(|error| WireError::Host { what: what(), source: error.into() })?;
        Ok(event)
    }

    fn poll(&mut self, subscriber: Subscriber) {
        self.board.registry.poll(self.turn, self.name, subscriber);
    }

    fn persist(&mut self, component: Arc<Mutex<dyn Component>>) {
        self.board.registry.persist(self.name, component);
    }

    fn announce(&mut self, node: Node) {
        self.board.nodes.push(node);
    }

    fn pci(&mut self, function: Arc<dyn PciFunction>) -> Result<Bdf, WireError> {
        let root = self.board.pci.as_ref().ok_or(WireError::NoPci)?;
        let at = root.insert(function).map_err(|error| WireError::Pci(error.into()))?;
        self.board.registry.put_on_bus(self.name, at);
        Ok(at)
    }
}

fn refused(error: hypervisor::WireError) -> WireError {
    WireError::Host { what: "an event between guest and device".to_owned(), source: error.into() }
}
