//! Doorbells of a PCI function move with its BAR, and nothing of them stays behind.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::{
    fs,
    sync::{Arc, Mutex},
};

use arch::{IoAddr, Layout};
use device::{
    Attach, AttachError, Bar, BarDoorbell, BarKind, EventFd, Identity, PciFunction, Wiring,
};
use hypervisor::mock;
use memory::{Backing, Ram};
use purlin_board::{Board, BoardBuilder};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

/// Two doorbells in a BAR.
struct Bells([Arc<EventFd>; 2]);

impl PciFunction for Bells {
    fn identity(&self) -> Identity {
        Identity { vendor: 0x1af4, device: 0x10ff, ..Identity::default() }
    }

    fn bars(&self) -> Vec<Bar> {
        vec![Bar { index: 0, kind: BarKind::Memory32, size: SIZE }]
    }

    fn doorbells(&self) -> Vec<BarDoorbell> {
        let doorbell = |(offset, event): (u64, &Arc<EventFd>)| BarDoorbell {
            bar: 0,
            offset,
            event: Arc::clone(event),
        };
        (0..).step_by(4).zip(&self.0).map(doorbell).collect()
    }
}

struct Device(Arc<Bells>);

impl Attach for Device {
    type Handle = ();

    fn attach(self, wiring: &mut dyn Wiring) -> Result<(), AttachError> {
        wiring.pci(self.0)?;
        Ok(())
    }
}

const SIZE: u64 = 0x1000;
const FIRST: u64 = 0xd000_0000;
/// One test at a time: one of them counts the open files of this process.
static FILES: Mutex<()> = Mutex::new(());
/// How often the BAR moves.
const MOVES: u64 = 1_000_000;
/// Pages that the allocator may keep; a byte for each move would be as many.
const SLACK: u64 = 256;

fn board() -> (Board, Arc<Bells>, Arc<mock::Machine>) {
    let layout = Layout::for_ram(1 << 20).unwrap();
    let ram = Ram::new(&layout.ram, Backing::Anonymous).unwrap();
    let machine = mock::Host::new([]).machine();
    let mut builder = BoardBuilder::new(machine.clone(), ram.memory(), &layout).unwrap();
    builder.pci(None).unwrap();
    let event = || Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
    let bells = Arc::new(Bells([event(), event()]));
    builder.attach("bells", Device(bells.clone())).unwrap();
    (builder.freeze().unwrap(), bells, machine)
}

/// Writes a dword of the configuration space of 00:01.0.
fn configure(board: &Board, register: u32, value: u32) {
    board.buses.pio.write(0xcf8, &(0x8000_0800 | register).to_le_bytes());
    board.buses.pio.write(0xcfc, &value.to_le_bytes());
}

/// The pages that this process has in memory, and how many files it has open.
fn held() -> (u64, usize) {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    (pages, fs::read_dir("/proc/self/fd").unwrap().count())
}

#[test]
fn a_doorbell_rings_where_the_bar_is_while_memory_space_is_on() {
    let _files = FILES.lock();
    let (board, bells, machine) = board();
    let ring = |at| machine.ring(IoAddr::Mmio(at), 7);
    assert!(!ring(FIRST), "memory space is off at first");
    configure(&board, 0x04, 2);
    assert!(ring(FIRST) && ring(FIRST + 4) && !ring(FIRST + 2));
    let [first, second] = &bells.0;
    assert_eq!((first.read().unwrap(), second.read().unwrap()), (1, 1));
    configure(&board, 0x10, 0xd100_0000);
    assert!(!ring(FIRST) && ring(0xd100_0004));
    assert_eq!(second.read().unwrap(), 1);
    configure(&board, 0x04, 0);
    assert!(!ring(0xd100_0004));
}

#[test]
fn a_bar_that_moves_again_and_again_leaves_nothing_behind() {
    let _files = FILES.lock();
    let (board, _, machine) = board();
    configure(&board, 0x04, 2);
    let (mut pages, mut files) = (0, 0);
    for index in 1..=MOVES {
        // Onto the map and off it.
        let at = if index % 3 == 0 { 0 } else { FIRST + index % 0x1_0000 * SIZE };
        configure(&board, 0x10, u32::try_from(at).unwrap());
        let expected = if at == 0 { vec![] } else { vec![at, at + 4] };
        let places: Vec<IoAddr> = expected.into_iter().map(IoAddr::Mmio).collect();
        assert_eq!(machine.listening(), places);
        if index == 1 {
            (pages, files) = held();
        }
    }
    let now = held();
    assert!(now.0 <= pages + SLACK && now.1 <= files, "{now:?} after {pages} pages, {files} files");
}
