//! Wiring without a machine, for unit tests of devices.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arch::{IoAddr, Layout, Node};
use bus::{BusBuilder, BusDevice, Buses, IrqLine, Mmio, Pio, Range};
use memory::{Backing, GuestMemory, Ram};
use snapshot::Component;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{Attach, AttachError, Bdf, Irq, PciFunction, Subscriber, WireError, Wiring};

/// A [`Wiring`] that keeps what a device takes, so that a test can look at it: no hypervisor, no
/// privileges, no threads.
pub struct FakeWiring {
    ram: Ram,
    pio: BusBuilder<Pio>,
    mmio: BusBuilder<Mmio>,
    next_window: u64,
    /// The lines taken, and how often each was raised.
    irqs: Vec<(u32, Arc<AtomicU64>)>,
    /// The doorbells taken; write to an event to ring it.
    pub doorbells: Vec<(IoAddr, Option<u32>, EventFd)>,
    /// What an I/O thread would serve.
    pub subscribers: Vec<Subscriber>,
    /// What a snapshot would hold.
    pub components: Vec<Arc<Mutex<dyn Component>>>,
    /// What firmware would describe.
    pub nodes: Vec<Node>,
    /// What would be on the PCI bus, from 00:01.0 on. Bus mastering is off until a test says otherwise.
    pub functions: Vec<Arc<dyn PciFunction>>,
    /// For each function, how often each of its MSI-X vectors was raised.
    vectors: Vec<Vec<Arc<AtomicU64>>>,
}

impl FakeWiring {
    /// Wiring with 1 MiB of guest RAM at address 0, a memfd that another process can be given.
    ///
    /// # Errors
    /// The host has no memory for it.
    pub fn new() -> io::Result<Self> {
        let layout = Layout::for_ram(1 << 20).map_err(io::Error::other)?;
        let ram = Ram::new(&layout.ram, Backing::Memfd).map_err(io::Error::other)?;
        Ok(Self {
            ram,
            pio: BusBuilder::new(),
            mmio: BusBuilder::new(),
            next_window: *layout.window.start(),
            irqs: Vec::new(),
            doorbells: Vec::new(),
            subscribers: Vec::new(),
            components: Vec::new(),
            nodes: Vec::new(),
            functions: Vec::new(),
            vectors: Vec::new(),
        })
    }

    /// Attaches `device`, as a board would.
    ///
    /// # Errors
    /// Those of the device.
    pub fn attach<A: Attach>(&mut self, device: A) -> Result<A::Handle, AttachError> {
        device.attach(self)
    }

    /// The buses with every claim so far; later claims start from empty buses.
    ///
    /// # Errors
    /// Claims overlap; the message names both sides.
    pub fn freeze(&mut self) -> io::Result<Buses> {
        let pio = std::mem::take(&mut self.pio).freeze().map_err(io::Error::other)?;
        let mmio = std::mem::take(&mut self.mmio).freeze().map_err(io::Error::other)?;
        Ok(Buses { pio, mmio })
    }

    /// How often line `gsi` was raised; `None` if no device took it.
    pub fn raised(&self, gsi: u32) -> Option<u64> {
        let line = self.irqs.iter().find(|(number, _)| *number == gsi)?;
        Some(line.1.load(Ordering::SeqCst))
    }

    /// How often MSI-X vector `vector` of the function at `at` was raised; `None` if there is none.
    pub fn msi_raised(&self, at: Bdf, vector: u16) -> Option<u64> {
        let index = usize::from(at.device()).checked_sub(1)?;
        let count = self.vectors.get(index)?.get(usize::from(vector))?;
        Some(count.load(Ordering::SeqCst))
    }

    /// Saves every component and restores it from what was saved: a device must not notice.
    ///
    /// # Errors
    /// A component cannot be saved, or does not take its own state back.
    pub fn save_and_restore(&mut self) -> io::Result<()> {
        for component in &self.components {
            let mut component = component.lock().unwrap_or_else(PoisonError::into_inner);
            let section = component.save_section().map_err(io::Error::other)?;
            component.restore_section(section).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Wiring for FakeWiring {
    fn memory(&self) -> GuestMemory {
        self.ram.memory()
    }

    fn pio(&mut self, at: Range<Pio>, device: Arc<dyn BusDevice>) {
        self.pio.claim("device", at, device);
    }

    fn mmio(&mut self, at: Range<Mmio>, device: Arc<dyn BusDevice>) {
        self.mmio.claim("device", at, device);
    }

    fn window(&mut self, len: u64) -> Result<Range<Mmio>, WireError> {
        let full = || WireError::WindowFull { len, free: 0 };
        let range = Range::new(self.next_window, len).map_err(|_| full())?;
        let step = len.checked_next_power_of_two().ok_or_else(full)?;
        self.next_window = self.next_window.checked_add(step).ok_or_else(full)?;
        Ok(range)
    }

    fn irq(&mut self, want: Irq) -> Result<(u32, IrqLine), WireError> {
        let taken = |gsi: u32| self.irqs.iter().any(|(number, _)| *number == gsi);
        let gsi = match want {
            Irq::Fixed(gsi) if taken(gsi) => {
                return Err(WireError::IrqTaken { gsi, owner: "device".to_owned() });
            }
            Irq::Fixed(gsi) => gsi,
            Irq::Any => {
                let none = WireError::NoIrq { first: 16, last: 23 };
                (16..=23).find(|gsi| !taken(*gsi)).ok_or(none)?
            }
        };
        let (count, line) = counted();
        self.irqs.push((gsi, count));
        Ok((gsi, line))
    }

    fn doorbell(&mut self, at: IoAddr, value: Option<u32>) -> Result<EventFd, WireError> {
        let host = |source: io::Error| WireError::Host {
            what: "an event".to_owned(),
            source: Box::new(source),
        };
        let event = EventFd::new(EFD_NONBLOCK).map_err(host)?;
        self.doorbells.push((at, value, event.try_clone().map_err(host)?));
        Ok(event)
    }

    fn poll(&mut self, subscriber: Subscriber) {
        self.subscribers.push(subscriber);
    }

    fn persist(&mut self, component: Arc<Mutex<dyn Component>>) {
        self.components.push(component);
    }

    fn announce(&mut self, node: Node) {
        self.nodes.push(node);
    }

    fn pci(&mut self, function: Arc<dyn PciFunction>) -> Result<Bdf, WireError> {
        let device = u8::try_from(self.functions.len().saturating_add(1)).ok();
        let at = device.and_then(|device| Bdf::new(0, device, 0));
        let at = at.ok_or_else(|| WireError::Pci("every slot is taken".into()))?;
        let vectors = function.msix().map_or(0, |layout| layout.vectors);
        let (counts, lines) = (0..vectors).map(|_| counted()).unzip();
        function.connect(lines);
        self.vectors.push(counts);
        self.functions.push(function);
        Ok(at)
    }
}

/// A line, and how often it was raised.
fn counted() -> (Arc<AtomicU64>, IrqLine) {
    let count = Arc::new(AtomicU64::new(0));
    let raised = Arc::clone(&count);
    let raise = move || {
        raised.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    (count, IrqLine::from_fn(raise))
}

impl fmt::Debug for FakeWiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeWiring")
            .field("pio", &self.pio)
            .field("mmio", &self.mmio)
            .field("irqs", &self.irqs)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::{Identity, MsixLayout};

    #[derive(Default)]
    struct Function(OnceLock<Vec<IrqLine>>);

    impl PciFunction for Function {
        fn identity(&self) -> Identity {
            Identity::default()
        }

        fn msix(&self) -> Option<MsixLayout> {
            Some(MsixLayout { vectors: 2, bar: 0, table: 0, pba: 0x800 })
        }

        fn connect(&self, lines: Vec<IrqLine>) {
            self.0.set(lines).unwrap();
        }
    }

    #[test]
    fn a_function_gets_a_slot_and_lines_that_count() {
        let mut wiring = FakeWiring::new().unwrap();
        let function = Arc::new(Function::default());
        let at = wiring.pci(function.clone()).unwrap();
        function.0.get().unwrap()[1].raise().unwrap();
        assert_eq!(at.to_string(), "00:01.0");
        assert_eq!([0, 1, 2].map(|vector| wiring.msi_raised(at, vector)), [Some(0), Some(1), None]);
    }

    #[test]
    fn the_32nd_function_finds_no_slot() {
        let mut wiring = FakeWiring::new().unwrap();
        for _ in 1..32 {
            wiring.pci(Arc::new(Function::default())).unwrap();
        }
        assert!(matches!(wiring.pci(Arc::new(Function::default())), Err(WireError::Pci(_))));
    }
}
