//! How a driver finds a virtio device on the PCI bus (virtio 1.3 §4.1.2 to §4.1.4, §4.1.5.1).

use bus::Buses;
use device::Node;

use super::machine::Machine;

const VENDOR: u32 = 0x1af4;
const COMMAND: u64 = 0x04;
const STATUS: u64 = 0x06;
const BARS: u64 = 0x10;
const LIST: u64 = 0x34;
/// Memory space and bus master.
pub(super) const ON: u32 = 0b110;
/// The messages of the vectors go there, with data from [`DATA`] on.
const LAPIC: u32 = 0xfee0_0000;
pub(super) const DATA: u32 = 0x40;

/// A virtio device as its driver knows it: guest physical addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Function {
    /// Of its configuration space.
    pub(super) ecam: u64,
    /// The device type.
    pub(super) id: u32,
    pub(super) bar: u64,
    pub(super) bar_size: u64,
    pub(super) common: u64,
    pub(super) isr: u64,
    pub(super) config: Option<u64>,
    pub(super) notify: u64,
    pub(super) notify_step: u32,
    pub(super) table: u64,
    pub(super) pba: u64,
    /// How many MSI-X vectors there are.
    pub(super) vectors: u32,
    /// Offset of the MSI-X capability.
    pub(super) msix: u64,
    /// Offset of the capability that is a window.
    pub(super) window: u64,
    /// Structures, as type, offset in the BAR and length.
    pub(super) structures: Vec<(u8, u32, u32)>,
    /// The index of the BAR that they are in.
    pub(super) bar_index: u64,
}

/// The device on the machine's bus: found, its BAR sized and placed, memory and bus mastering switched
/// on, every MSI-X vector programmed and MSI-X switched on.
pub(super) fn find(machine: &Machine) -> Function {
    let root = machine.wiring.nodes.iter().find_map(|node| match node {
        Node::PciRoot { ecam, mem32, .. } => Some((*ecam, mem32.last)),
        _ => None,
    });
    let (ecam, last) = root.expect("the device announces its registers, or is on the PCI bus");
    let buses = &machine.buses;
    let spaces = (1..32).map(|device| ecam + (device << 15));
    let mut found = spaces.filter(|space| get(buses, *space, 2) == VENDOR);
    let ecam = found.next().expect("there is a virtio device on the bus");
    let mut function = Function { ecam, ..Function::default() };
    function.check(buses);
    function.walk(buses);
    function.place_bar(buses, last);
    function.program(buses);
    function
}

impl Function {
    /// Reads configuration space.
    pub(super) fn get(&self, buses: &Buses, offset: u64, width: usize) -> u32 {
        get(buses, self.ecam + offset, width)
    }

    /// Writes configuration space.
    pub(super) fn set(&self, buses: &Buses, offset: u64, width: usize, value: u32) {
        set(buses, self.ecam + offset, width, value);
    }

    fn check(&mut self, buses: &Buses) {
        let device = self.get(buses, 2, 2);
        assert!(
            (0x1041..0x1080).contains(&device),
            "device {device:#x} is no modern virtio device"
        );
        self.id = device - 0x1040;
        assert!(self.get(buses, 8, 1) >= 1, "the revision of a modern device is 1 or more");
        assert!(self.get(buses, 0x2e, 2) >= 0x40, "its subsystem is not that of a legacy device");
        assert_eq!(self.get(buses, 0x0e, 1) & 0x7f, 0, "its header is of type 0");
        assert_eq!(self.get(buses, STATUS, 2) & 0x10, 0x10, "it has capabilities");
        assert_eq!(self.get(buses, 0x3d, 1), 1, "its interrupt pin is INTA");
    }

    /// Goes through the list of capabilities.
    fn walk(&mut self, buses: &Buses) {
        let mut at = u64::from(self.get(buses, LIST, 1));
        for _ in 0..48 {
            if at == 0 {
                return;
            }
            assert!(at >= 0x40 && at.is_multiple_of(4), "a capability is at {at:#x}");
            match self.get(buses, at, 1) {
                0x09 => self.structure(buses, at),
                0x11 => self.msix = at,
                _ => {}
            }
            at = u64::from(self.get(buses, at + 1, 1));
        }
        assert_eq!(at, 0, "the list of capabilities has no end");
    }

    /// Takes the first structure of each type, as a driver does that does not mind where it is.
    fn structure(&mut self, buses: &Buses, at: u64) {
        let kind = u8::try_from(self.get(buses, at + 3, 1)).expect("a byte");
        let len = self.get(buses, at + 2, 1);
        let least = match kind {
            1..=4 if kind != 2 => 16,
            _ => 20,
        };
        assert!(len >= least, "the capability of type {kind} has {len} bytes");
        if kind == 5 {
            self.window = at;
            return;
        }
        assert!(!self.structures.iter().any(|other| other.0 == kind), "type {kind} comes twice");
        let bar = u64::from(self.get(buses, at + 4, 1));
        assert!(self.structures.is_empty() || bar == self.bar_index, "structures share a BAR");
        self.bar_index = bar;
        if kind == 2 {
            self.notify_step = self.get(buses, at + 16, 4);
        }
        let (offset, length) = (self.get(buses, at + 8, 4), self.get(buses, at + 12, 4));
        self.structures.push((kind, offset, length));
    }

    fn bar_register(&self) -> u64 {
        BARS + 4 * self.bar_index
    }

    /// Finds the size of the BAR, and puts it at the end of the memory that ends at `last`.
    fn place_bar(&mut self, buses: &Buses, last: u64) {
        let register = self.bar_register();
        assert_eq!(self.get(buses, register, 4) & 0b111, 0, "the BAR is in 32-bit memory");
        self.set(buses, register, 4, u32::MAX);
        let mask = self.get(buses, register, 4) & !0xf;
        self.bar_size = u64::from(!mask) + 1;
        assert!(self.bar_size.is_power_of_two(), "a BAR of {:#x} bytes", self.bar_size);
        let end = self.structures.iter().map(|(_, at, len)| u64::from(*at) + u64::from(*len)).max();
        assert!(end.unwrap_or(0) <= self.bar_size, "a structure leaves the BAR");
        self.set(buses, COMMAND, 2, ON);
        self.move_to(buses, last + 1 - self.bar_size);
    }

    /// Puts the BAR at `bar`.
    pub(super) fn move_to(&mut self, buses: &Buses, bar: u64) {
        self.set(buses, self.bar_register(), 4, u32::try_from(bar).expect("32 bits"));
        self.bar = bar;
        let find = |kind| {
            let found = self.structures.iter().find(|structure| structure.0 == kind);
            found.map(|structure| bar + u64::from(structure.1))
        };
        let missing = "common configuration, notification and ISR status are there";
        let (common, notify, isr) = (find(1), find(2), find(3));
        self.config = find(4);
        self.common = common.expect(missing);
        self.notify = notify.expect(missing);
        self.isr = isr.expect(missing);
        let word = |offset| u64::from(self.get(buses, self.msix + offset, 4) & !7);
        (self.table, self.pba) = (bar + word(4), bar + word(8));
    }

    /// Gives every vector its message, and switches MSI-X on.
    fn program(&mut self, buses: &Buses) {
        assert!(self.msix != 0, "the device has MSI-X");
        assert!(self.window != 0, "the device has a window capability");
        let bar = u64::from(self.get(buses, self.msix + 4, 4) & 7);
        assert_eq!(bar, self.bar_index, "the MSI-X table is in the same BAR");
        self.vectors = (self.get(buses, self.msix + 2, 2) & 0x7ff) + 1;
        for vector in 0..self.vectors {
            let entry = self.table + 16 * u64::from(vector);
            for (word, value) in (0..).zip([LAPIC, 0, DATA + vector, 0]) {
                set(buses, entry + 4 * word, 4, value);
            }
        }
        self.set(buses, self.msix + 2, 2, 0x8000);
    }

    /// The vector of a queue: that of the configuration is 0, and the last is for all that remain.
    pub(super) fn vector_of(&self, queue: u32) -> u32 {
        (queue + 1).min(self.vectors - 1)
    }

    /// Brings configuration space back to where it is known: BAR, command register, MSI-X.
    pub(super) fn put_right(&self, buses: &Buses) {
        self.set(buses, self.bar_register(), 4, u32::try_from(self.bar).expect("32 bits"));
        self.command(buses, ON);
        self.set(buses, self.msix + 2, 2, 0x8000);
    }

    /// Switches what the command register switches.
    pub(super) fn command(&self, buses: &Buses, value: u32) {
        self.set(buses, COMMAND, 2, value);
    }
}

/// Reads memory.
pub(super) fn get(buses: &Buses, at: u64, width: usize) -> u32 {
    let mut data = [0; 4];
    let part = &mut data[..width];
    part.fill(0xff);
    buses.mmio.read(at, part);
    u32::from_le_bytes(data)
}

/// Writes the lowest `width` bytes of `value` to memory.
pub(super) fn set(buses: &Buses, at: u64, width: usize, value: u32) {
    buses.mmio.write(at, &value.to_le_bytes()[..width]);
}
