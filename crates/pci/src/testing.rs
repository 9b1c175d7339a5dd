//! A host and a function for unit tests.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bus::{Buses, Range};
use device::{
    AccessError, Action, Bar, BarDoorbell, BarKind, Bdf, Capability, EventFd, FakeWiring, Identity,
    Intx, IrqLine, MsixLayout, PciFunction,
};

use crate::{Host, IntxLines, Message, MsiVector, Root, RootComplex, lock};

/// The lines that interrupt pins share.
pub(crate) const INTX: IntxLines = IntxLines([20, 21, 22, 23]);

/// Keeps what the bus asks for.
#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) vectors: Mutex<Vec<Arc<TestVector>>>,
    /// Where events are listened for.
    pub(crate) listening: Mutex<Vec<u64>>,
    /// Whether it refuses to listen, and to drive lines.
    pub(crate) deaf: AtomicBool,
    /// What lines it was told to drive, and how.
    pub(crate) levels: Mutex<Vec<(u32, bool)>>,
    /// What the guest has let go of.
    pub(crate) ejected: Mutex<Vec<Bdf>>,
    /// What the machine does meanwhile.
    pub(crate) when_ejected: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Host for TestHost {
    fn msi(&self) -> io::Result<Arc<dyn MsiVector>> {
        let vector = Arc::new(TestVector::default());
        lock(&self.vectors).push(Arc::clone(&vector));
        Ok(vector)
    }

    fn intx(&self) -> Option<IntxLines> {
        Some(INTX)
    }

    fn level(&self, gsi: u32, asserted: bool) -> io::Result<()> {
        if self.deaf.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        lock(&self.levels).push((gsi, asserted));
        Ok(())
    }

    fn ejected(&self, at: Bdf) {
        lock(&self.ejected).push(at);
        if let Some(hook) = lock(&self.when_ejected).as_mut() {
            hook();
        }
    }

    fn listen(&self, address: u64, _: &EventFd) -> io::Result<()> {
        if self.deaf.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        lock(&self.listening).push(address);
        Ok(())
    }

    fn unlisten(&self, address: u64, _: &EventFd) -> io::Result<()> {
        lock(&self.listening).retain(|old| *old != address);
        Ok(())
    }
}

/// Notes what it delivers; refuses messages to address 0xbad0_0000, and as many more as it is told to.
#[derive(Default)]
pub(crate) struct TestVector {
    pub(crate) refuse: Mutex<u32>,
    now: Mutex<Message>,
    pub(crate) programs: Mutex<u32>,
    pub(crate) delivered: Mutex<Vec<Message>>,
}

impl MsiVector for TestVector {
    fn program(&self, message: Message) -> io::Result<()> {
        if message.address == 0xbad0_0000 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut refuse = lock(&self.refuse);
        if let Some(left) = refuse.checked_sub(1) {
            *refuse = left;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        *lock(&self.programs) += 1;
        *lock(&self.now) = message;
        Ok(())
    }

    fn raise(&self) -> io::Result<()> {
        let message = *lock(&self.now);
        lock(&self.delivered).push(message);
        Ok(())
    }
}

/// Reads as `tag`; keeps what is written.
#[derive(Default)]
pub(crate) struct TestFunction {
    pub(crate) tag: u8,
    pub(crate) bars: Vec<Bar>,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) msix: Option<MsixLayout>,
    pub(crate) doorbells: Vec<BarDoorbell>,
    pub(crate) lines: OnceLock<Vec<IrqLine>>,
    pub(crate) intx: Option<Intx>,
    /// BAR, offset, data.
    pub(crate) written: Mutex<Vec<(u8, u64, Vec<u8>)>>,
    /// What it was told of bus mastering.
    pub(crate) mastering: Mutex<Vec<bool>>,
}

impl TestFunction {
    /// With one BAR, number 0, in 32-bit memory.
    pub(crate) fn with_memory(tag: u8, size: u64) -> Self {
        Self::with_bar(tag, BarKind::Memory32, size)
    }

    /// With one BAR, number 0.
    pub(crate) fn with_bar(tag: u8, kind: BarKind, size: u64) -> Self {
        Self { tag, bars: vec![Bar { index: 0, kind, size }], ..Self::default() }
    }
}

impl PciFunction for TestFunction {
    fn identity(&self) -> Identity {
        Identity { vendor: 0x1af4, device: 0x1000 + u16::from(self.tag), ..Identity::default() }
    }

    fn bars(&self) -> Vec<Bar> {
        self.bars.clone()
    }

    fn capabilities(&self) -> Vec<Capability> {
        self.capabilities.clone()
    }

    fn msix(&self) -> Option<MsixLayout> {
        self.msix
    }

    fn doorbells(&self) -> Vec<BarDoorbell> {
        self.doorbells.clone()
    }

    fn intx(&self) -> Option<Intx> {
        self.intx.clone()
    }

    fn connect(&self, lines: Vec<IrqLine>) {
        assert!(self.lines.set(lines).is_ok(), "connected twice");
    }

    fn bus_master(&self, on: bool) {
        lock(&self.mastering).push(on);
    }

    fn bar_read(&self, _: u8, _: u64, data: &mut [u8]) -> Result<(), AccessError> {
        data.fill(self.tag);
        Ok(())
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        lock(&self.written).push((bar, offset, data.to_vec()));
        Ok(Action::Continue)
    }
}

/// A bus in a machine that is nothing else.
pub(crate) struct TestBus {
    pub(crate) host: Arc<TestHost>,
    pub(crate) root: Root,
    pub(crate) wiring: FakeWiring,
    pub(crate) buses: Buses,
}

/// Where [`FakeWiring`] puts ECAM and the window behind it.
pub(crate) const ECAM: u64 = 0xc000_0000;
pub(crate) const MEM32: u64 = ECAM + (1 << 20);
pub(crate) const MEM32_LAST: u64 = MEM32 + (256 << 20) - 1;
pub(crate) const MEM64: u64 = 1 << 36;
pub(crate) const PORTS: u16 = 0xc000;
/// Where the hot-plug controller is: behind the window.
pub(crate) const HOTPLUG: u64 = MEM32_LAST + 1;

impl TestBus {
    pub(crate) fn new() -> Self {
        let host = Arc::new(TestHost::default());
        let root = RootComplex::new(host.clone())
            .mem64(Range::new(MEM64, 1 << 32).unwrap())
            .io(Range::new(PORTS, 0x1000).unwrap());
        let mut wiring = FakeWiring::new().unwrap();
        let root = wiring.attach(root).unwrap();
        let buses = wiring.freeze().unwrap();
        Self { host, root, wiring, buses }
    }

    /// Inserts `function` and switches its BARs on.
    pub(crate) fn insert(&self, function: TestFunction) -> (u8, Arc<TestFunction>) {
        let function = Arc::new(function);
        let device = self.root.insert(function.clone()).unwrap().device();
        self.write(device, 4, 7);
        (device, function)
    }

    /// The dword of configuration space, by ECAM.
    pub(crate) fn read(&self, device: u8, offset: u64) -> u32 {
        self.load(ecam(device, offset))
    }

    pub(crate) fn write(&self, device: u8, offset: u64, value: u32) {
        self.store(ecam(device, offset), value);
    }

    /// The dword in memory.
    pub(crate) fn load(&self, at: u64) -> u32 {
        let mut data = [0; 4];
        self.buses.mmio.read(at, &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn store(&self, at: u64, value: u32) {
        self.buses.mmio.write(at, &value.to_le_bytes());
    }

    /// The byte in memory.
    pub(crate) fn tag(&self, at: u64) -> u8 {
        let mut data = [0];
        self.buses.mmio.read(at, &mut data);
        data[0]
    }
}

pub(crate) fn ecam(device: u8, offset: u64) -> u64 {
    ECAM + (u64::from(device) << 15) + offset
}
