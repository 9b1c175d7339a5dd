//! A million of what a guest may do without end, on a machine without a guest: what the process holds
//! afterwards is what it held before.

use std::{error::Error, fs, io, sync::Arc};

use arch::{IoAddr, Layout};
use board::{Board, BoardBuilder};
use bus::Buses;
use device::EventFd;
use hypervisor::mock;
use memory::{Backing, Bytes, GuestAddress, GuestMemory, Ram};
use virtio_rng::Rng;

/// How many devices there are: each has one of the four lines of the bus for itself.
const DEVICES: u8 = 4;
/// How often each is notified, and interrupts, in each of two tests: a million times in all.
const ROUNDS: u32 = 125_000;
/// Pages and open files that the rest of the process may need meanwhile: a byte for each interrupt would
/// be fewer, and 16 bytes are more.
const PAGES: u64 = 1024;
const FILES: usize = 64;
/// Entries of a queue.
const SIZE: u16 = 8;
/// From a queue's start on: descriptors, available ring, used ring, and the one buffer.
const AREAS: [u64; 4] = [0, 0x400, 0x800, 0xc00];
/// Command register: memory space, bus master.
const ON: u32 = 0b110;

/// What this process holds: resident pages, and open files.
#[derive(Debug)]
struct Held {
    pages: u64,
    files: usize,
}

impl Held {
    fn now() -> io::Result<Self> {
        let statm = fs::read_to_string("/proc/self/statm")?;
        let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
        let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pages, files: fs::read_dir("/proc/self/fd")?.count() })
    }

    fn assert_no_more_than(&self, before: &Self) {
        assert!(self.pages <= before.pages + PAGES, "{self:?} after {before:?}");
        assert!(self.files <= before.files + FILES, "{self:?} after {before:?}");
    }
}

/// The driver of the source of random numbers at 00:`slot`.0.
struct Driver {
    slot: u8,
    buses: Arc<Buses>,
    memory: GuestMemory,
    /// The virtio structures by their type: common configuration, notification, ISR status.
    structures: [u64; 3],
    /// Offset of the MSI-X capability.
    msix: u32,
    offered: u16,
}

impl Driver {
    fn new(slot: u8, buses: &Arc<Buses>, memory: &GuestMemory) -> Result<Self, Box<dyn Error>> {
        let (buses, memory) = (Arc::clone(buses), memory.clone());
        let mut driver = Self { slot, buses, memory, structures: [0; 3], msix: 0, offered: 0 };
        driver.find();
        driver.start()?;
        Ok(driver)
    }

    /// The line of its pin.
    fn line(&self) -> u32 {
        16 + u32::from(self.slot % 4)
    }

    fn select(&self, register: u32) {
        let address = 1 << 31 | u32::from(self.slot) << 11 | register;
        self.buses.pio.write(0xcf8, &address.to_le_bytes());
    }

    fn configure(&self, register: u32, value: u32) {
        self.select(register);
        self.buses.pio.write(0xcfc, &value.to_le_bytes());
    }

    fn configuration(&self, register: u32) -> u32 {
        let mut data = [0; 4];
        self.select(register);
        self.buses.pio.read(0xcfc, &mut data);
        u32::from_le_bytes(data)
    }

    /// Switches the function on and goes through its capabilities.
    fn find(&mut self) {
        self.configure(0x04, ON);
        let bar = u64::from(self.configuration(0x10));
        let mut at = self.configuration(0x34) & 0xff;
        while at != 0 {
            let [id, next, _, kind] = self.configuration(at).to_le_bytes();
            match (id, usize::from(kind)) {
                (0x09, kind @ 1..=3) => {
                    let place = bar + u64::from(self.configuration(at + 8));
                    self.structures.iter_mut().skip(kind - 1).take(1).for_each(|it| *it = place);
                }
                (0x11, _) => self.msix = at,
                _ => {}
            }
            at = next.into();
        }
    }

    fn areas(&self) -> [u64; 4] {
        AREAS.map(|area| area + 0x1000 * u64::from(self.slot))
    }

    /// Sets the device and its queue up, with the one buffer in every entry of the available ring.
    fn start(&self) -> Result<(), Box<dyn Error>> {
        let [descriptors, available, used, buffer] = self.areas();
        let [common, ..] = self.structures;
        let write = |register, data: &[u8]| self.buses.mmio.write(common + register, data);
        write(0x14, &[1]);
        write(0x14, &[3]);
        write(0x08, &1_u32.to_le_bytes());
        write(0x0c, &1_u32.to_le_bytes());
        write(0x14, &[11]);
        write(0x18, &SIZE.to_le_bytes());
        // Vector 0 is for the queue.
        write(0x1a, &[0; 2]);
        for (register, place) in [0x20, 0x28, 0x30].into_iter().zip([descriptors, available, used])
        {
            write(register, &u32::try_from(place)?.to_le_bytes());
        }
        write(0x1c, &1_u16.to_le_bytes());
        write(0x14, &[15]);
        self.memory.write_obj([buffer, 64 | 2 << 32], GuestAddress(descriptors))?;
        Ok(())
    }

    /// Gives vector 0 a message of its own, and switches MSI-X on.
    fn use_messages(&self) {
        let table = self.configuration(self.msix + 4) & !7;
        let table = u64::from(self.configuration(0x10)) + u64::from(table);
        self.configure(self.msix, 1 << 31);
        for (word, value) in (0..).zip([0xfee0_0000, 0, u32::from(self.slot), 0]) {
            self.buses.mmio.write(table + 4 * word, &value.to_le_bytes());
        }
    }

    /// Offers the buffer and notifies, as a guest does.
    fn offer(&mut self, host: &mock::Machine) -> Result<(), Box<dyn Error>> {
        let [_, available, ..] = self.areas();
        self.offered = self.offered.wrapping_add(1);
        self.memory.write_obj(self.offered, GuestAddress(available + 2))?;
        assert!(host.ring(IoAddr::Mmio(self.structures[1]), 0), "the doorbell is an event");
        Ok(())
    }

    /// Whether the device has given back all that was offered.
    fn is_served(&self) -> Result<bool, Box<dyn Error>> {
        let [_, _, used, _] = self.areas();
        Ok(self.memory.read_obj::<u16>(GuestAddress(used + 2))? == self.offered)
    }

    /// Reads the ISR status.
    fn isr(&self) -> u8 {
        let mut data = [0];
        self.buses.mmio.read(self.structures[2], &mut data);
        data[0]
    }
}

struct Machine {
    host: Arc<mock::Machine>,
    board: Board,
    drivers: Vec<Driver>,
    /// Signalled for good: the event loop makes one turn at a time.
    turn: EventFd,
}

impl Machine {
    fn new() -> Result<Self, Box<dyn Error>> {
        let layout = Layout::for_ram(64 << 10)?;
        let ram = Ram::new(&layout.ram, Backing::Anonymous)?;
        let host = mock::Host::default().machine();
        let mut builder = BoardBuilder::new(host.clone(), ram.memory(), &layout)?;
        builder.pci(None)?;
        for slot in 1..=DEVICES {
            builder.attach(&format!("rng{slot}"), virtio::pci(Rng::new(io::repeat(7))))?;
        }
        let (board, turn) = (builder.freeze()?, EventFd::new(0)?);
        turn.write(1)?;
        let drivers = (1..=DEVICES).map(|slot| Driver::new(slot, &board.buses, &ram.memory()));
        let drivers = drivers.collect::<Result<_, _>>()?;
        Ok(Self { host, board, drivers, turn })
    }

    /// Notifies every device, and has each serve its queue.
    fn round(&mut self) -> Result<(), Box<dyn Error>> {
        for driver in &mut self.drivers {
            driver.offer(&self.host)?;
        }
        self.board.serve(&self.turn)?;
        for driver in &self.drivers {
            assert!(driver.is_served()?, "one kick is one turn");
        }
        Ok(())
    }
}

#[test]
fn kicks_and_interrupts_by_line_leave_nothing_behind() {
    let mut machine = Machine::new().unwrap();
    let mut before = None;
    for _ in 0..ROUNDS {
        machine.round().unwrap();
        for driver in &machine.drivers {
            assert!(machine.host.is_asserted(driver.line()));
            assert_eq!(driver.isr(), 1);
            assert!(!machine.host.is_asserted(driver.line()));
        }
        before.get_or_insert_with(|| Held::now().unwrap());
    }
    Held::now().unwrap().assert_no_more_than(&before.unwrap());
    for driver in &machine.drivers {
        assert_eq!(machine.host.rises(driver.line()), u64::from(ROUNDS));
    }
}

#[test]
fn kicks_and_interrupts_by_message_leave_nothing_behind() {
    let mut machine = Machine::new().unwrap();
    machine.drivers.iter().for_each(Driver::use_messages);
    let mut before = None;
    for _ in 0..ROUNDS {
        machine.round().unwrap();
        before.get_or_insert_with(|| Held::now().unwrap());
    }
    Held::now().unwrap().assert_no_more_than(&before.unwrap());
    let messages = machine.host.messages();
    for driver in &machine.drivers {
        let own = messages.iter().filter(|message| message.data == u32::from(driver.slot));
        assert_eq!(u32::try_from(own.count()), Ok(ROUNDS));
        assert_eq!(machine.host.rises(driver.line()), 0, "no line was asserted");
    }
}
