//! A PCI device on a board: it is found, it answers, and its interrupts reach the machine.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::sync::{Arc, OnceLock};

use arch::{IntxLines, Layout, Node};
use bus::Range;
use device::{
    AccessError, Attach, AttachError, Bar, BarKind, Bdf, Identity, Intx, IrqLine, MsixLayout,
    PciFunction, WireError, Wiring,
};
use hypervisor::{MsiMessage, mock};
use memory::{Backing, Ram};
use purlin_board::{Board, BoardBuilder, BoardError};
use snapshot::Snapshot;

/// One BAR that reads as 7, with an MSI-X vector and a pin.
#[derive(Default)]
struct Chime {
    pin: Intx,
    lines: OnceLock<Vec<IrqLine>>,
}

impl PciFunction for Chime {
    fn identity(&self) -> Identity {
        Identity { vendor: 0x1af4, device: 0x10ff, ..Identity::default() }
    }

    fn bars(&self) -> Vec<Bar> {
        vec![Bar { index: 0, kind: BarKind::Memory32, size: 0x1000 }]
    }

    fn msix(&self) -> Option<MsixLayout> {
        Some(MsixLayout { vectors: 1, bar: 0, table: 0x800, pba: 0xc00 })
    }

    fn intx(&self) -> Option<Intx> {
        Some(self.pin.clone())
    }

    fn connect(&self, lines: Vec<IrqLine>) {
        assert!(self.lines.set(lines).is_ok());
    }

    fn bar_read(&self, _: u8, _: u64, data: &mut [u8]) -> Result<(), AccessError> {
        data.fill(7);
        Ok(())
    }
}

struct ChimeDevice(Arc<Chime>);

impl Attach for ChimeDevice {
    type Handle = Bdf;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<Bdf, AttachError> {
        Ok(wiring.pci(self.0)?)
    }
}

fn builder() -> (BoardBuilder, Arc<mock::Machine>) {
    let layout = Layout::for_ram(1 << 20).unwrap();
    let ram = Ram::new(&layout.ram, Backing::Anonymous).unwrap();
    let machine = mock::Host::new([]).machine();
    (BoardBuilder::new(machine.clone(), ram.memory(), &layout).unwrap(), machine)
}

fn board() -> (Board, Arc<Chime>, Arc<mock::Machine>) {
    let (mut builder, machine) = builder();
    builder.pci(None).unwrap();
    let chime = Arc::new(Chime::default());
    builder.attach("chime", ChimeDevice(chime.clone())).unwrap();
    (builder.freeze().unwrap(), chime, machine)
}

/// Writes a dword of the configuration space of 00:01.0.
fn configure(board: &Board, register: u32, value: u32) {
    board.buses.pio.write(0xcf8, &(0x8000_0800 | register).to_le_bytes());
    board.buses.pio.write(0xcfc, &value.to_le_bytes());
}

const BAR: u64 = 0xd000_0000;

/// Switches memory, bus mastering and MSI-X on and unmasks the vector.
fn enable(board: &Board) {
    configure(board, 0x04, 6);
    configure(board, 0x40, 0x8000_0000);
    board.buses.mmio.write(BAR + 0x800, &0xfee0_0000_u64.to_le_bytes());
    board.buses.mmio.write(BAR + 0x808, &0x31_u64.to_le_bytes());
}

#[test]
fn a_pci_device_answers_at_its_bar() {
    let (board, _, _) = board();
    enable(&board);
    let mut data = [0];
    board.buses.mmio.read(BAR, &mut data);
    assert_eq!(data, [7]);
}

#[test]
fn an_interrupt_of_a_pci_device_is_the_message_that_the_guest_wrote() {
    let (board, chime, machine) = board();
    let line = &chime.lines.get().unwrap()[0];
    line.raise().unwrap();
    enable(&board);
    line.raise().unwrap();
    let message = MsiMessage { address: 0xfee0_0000, data: 0x31 };
    assert_eq!(machine.route(24), Some(message));
    assert_eq!(machine.messages(), [message]);
}

#[test]
fn the_bus_is_announced_with_windows_that_are_not_each_other_s() {
    let (board, _, _) = board();
    let [Node::PciRoot { ecam, mem32, mem64: None, io: Some(io), .. }, ..] = board.nodes[..] else {
        panic!("{:?}", board.nodes)
    };
    assert_eq!((ecam, mem32.first, mem32.last), (0xc000_0000, BAR, 0xdfff_ffff));
    assert_eq!((io.first, io.last), (0xc000, 0xffff));
}

#[test]
fn a_pin_drives_a_line_of_the_ioapic_that_nobody_else_has() {
    let (board, chime, machine) = board();
    let [Node::PciRoot { intx: Some(intx), .. }, Node::PciHotplug { gsi, .. }, ..] =
        board.nodes[..]
    else {
        panic!("{:?}", board.nodes)
    };
    assert_eq!((intx, gsi), (IntxLines([16, 17, 18, 19]), 20));
    chime.pin.raise(1);
    assert_eq!([16, 17, 18, 19].map(|gsi| machine.rises(gsi)), [0, 1, 0, 0]);
    assert!(machine.is_asserted(17));
    enable(&board);
    assert!(!machine.is_asserted(17), "MSI-X is on");
    chime.pin.take();
    assert_eq!((machine.rises(17), machine.edges(17), machine.messages().len()), (1, 0, 0));
}

#[test]
fn a_device_that_is_taken_away_lowers_its_line() {
    let (board, chime, machine) = board();
    chime.pin.raise(1);
    board.hotplug().unwrap().request_removal("chime").unwrap();
    assert!(machine.is_asserted(17), "the guest has not let go of it");
    let controller = board.nodes.iter().find_map(|node| match node {
        Node::PciHotplug { base, .. } => Some(*base),
        _ => None,
    });
    board.buses.mmio.write(controller.unwrap() + 8, &2_u32.to_le_bytes());
    assert!(!machine.is_asserted(17));
    chime.pin.take();
    chime.pin.raise(1);
    assert_eq!(machine.rises(17), 1);
}

#[test]
fn the_vector_of_a_device_that_is_gone_carries_nothing_and_is_the_next_one_s() {
    let (board, mut chime, machine) = board();
    let hotplug = board.hotplug().unwrap();
    let controller = board.nodes.iter().find_map(|node| match node {
        Node::PciHotplug { base, .. } => Some(*base),
        _ => None,
    });
    for _ in 0..3 {
        enable(&board);
        assert!(machine.route(24).is_some());
        board.buses.mmio.write(controller.unwrap() + 8, &2_u32.to_le_bytes());
        drop(chime);
        assert_eq!(machine.route(24), None);
        chime = Arc::new(Chime::default());
        hotplug.attach("chime", ChimeDevice(chime.clone())).unwrap();
    }
    assert_eq!(machine.route(25), None);
}

#[test]
fn a_restored_machine_has_its_bars_and_vectors() {
    let (mut from, _, _) = board();
    enable(&from);
    let mut snapshot = Snapshot::new();
    from.save(&mut snapshot).unwrap();
    let (mut to, chime, machine) = board();
    to.restore(&mut snapshot).unwrap();
    snapshot.finish().unwrap();
    let mut data = [0];
    to.buses.mmio.read(BAR, &mut data);
    chime.lines.get().unwrap()[0].raise().unwrap();
    assert_eq!((data, machine.messages().len()), ([7], 1));
}

#[test]
fn without_a_bus_a_pci_device_is_refused() {
    let (mut builder, _) = builder();
    let error = builder.attach("chime", ChimeDevice(Arc::default())).unwrap_err();
    let BoardError::Attach { name, source: AttachError::Wire(WireError::NoPci) } = error else {
        panic!("{error:?}")
    };
    assert_eq!(name, "chime");
}

#[test]
fn there_is_one_bus_and_its_high_window_is_claimed() {
    let (mut builder, _) = builder();
    builder.pci(Some(Range::new(1 << 36, 1 << 30).unwrap())).unwrap();
    let taken = builder.pci(None).unwrap_err();
    assert!(matches!(taken, BoardError::Attach { source: AttachError::NameTaken(_), .. }));
    let board = builder.freeze().unwrap();
    assert!(board.buses.mmio.ranges().any(|range| range.first() == 1 << 36));
}
