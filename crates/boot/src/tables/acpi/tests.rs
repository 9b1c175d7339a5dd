use arch::{IntxLines, Layout, Node, Topology, Window};

use super::*;
use crate::tables::bytes::checksum;

const NODES: [Node; 6] = [
    Node::Uart { port: 0x3f8, gsi: 4 },
    Node::Keyboard { gsi: 1 },
    Node::Rtc { port: 0x70 },
    Node::AcpiPower { base: 0x600, gsi: 9 },
    Node::Pvpanic { port: 0x505 },
    Node::VirtioMmio { base: 0xc000_0000, len: 0x1000, gsi: 16 },
];

fn area(nodes: &[Node], cpus: u32) -> Result<Vec<u8>, TablesError> {
    let layout = Layout::for_ram(64 << 20).unwrap();
    let topology = Topology::flat(cpus).unwrap();
    build(&Platform { layout: &layout, topology: &topology, nodes }).map(|block| block.bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The table at guest physical `address`.
fn table_at(area: &[u8], address: u64) -> &[u8] {
    let at = usize::try_from(address - place::ACPI).unwrap();
    &area[at..at + usize::try_from(u32_at(area, at + 4)).unwrap()]
}

/// What the XSDT lists.
fn tables(area: &[u8]) -> Vec<&[u8]> {
    let xsdt = table_at(area, u64_at(area, 24));
    xsdt[36..].chunks(8).map(|entry| table_at(area, u64_at(entry, 0))).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn every_table_in_the_chain_sums_to_zero() {
    let area = area(&NODES, 4).unwrap();
    let xsdt = table_at(&area, u64_at(&area, 24));
    let fadt = tables(&area)[0];
    let dsdt = table_at(&area, u64_at(fadt, 140));
    let sums = [&area[..20], &area[..36], xsdt, fadt, dsdt, tables(&area)[1]].map(checksum);
    assert_eq!(sums, [0; 6]);
    assert_eq!([&xsdt[..4], &dsdt[..4]], [b"XSDT", b"DSDT"]);
}

#[test]
fn the_fadt_gives_the_fixed_hardware() {
    let area = area(&NODES, 1).unwrap();
    let fadt = tables(&area)[0];
    assert_eq!(&fadt[..4], b"FACP");
    assert_eq!([56, 64].map(|at| u32_at(fadt, at)), [0x600, 0x604]);
    assert_eq!([148, 172, 116].map(|at| u64_at(fadt, at + 4)), [0x600, 0x604, 0x60c]);
    assert_eq!((fadt[46], fadt[128]), (9, 1));
    let flags = u32_at(fadt, 112);
    // Reset register, no hardware-reduced ACPI, power button fixed.
    assert_eq!((flags >> 10 & 1, flags >> 20 & 1, flags >> 4 & 1), (1, 0, 0));
}

#[test]
fn the_fadt_has_no_timer() {
    let area = area(&NODES, 1).unwrap();
    let fadt = tables(&area)[0];
    assert_eq!((u32_at(fadt, 76), fadt[91], u64_at(fadt, 212)), (0, 0, 0));
}

#[test]
fn the_facs_is_at_a_multiple_of_64() {
    let area = area(&NODES, 1).unwrap();
    let facs = u64::from(u32_at(tables(&area)[0], 36));
    assert_eq!(facs % 64, 0);
    assert_eq!(&table_at(&area, facs)[..4], b"FACS");
}

#[test]
fn boot_flags_say_which_legacy_devices_there_are() {
    let flags = |nodes: &[Node]| tables(&area(nodes, 1).unwrap())[0][109];
    assert_eq!(flags(&NODES), 0b00_0111);
    assert_eq!(flags(&[]), 0b10_0100);
}

#[test]
fn without_the_fixed_hardware_acpi_is_hardware_reduced_and_cannot_sleep() {
    let area = area(&NODES[..3], 1).unwrap();
    let fadt = tables(&area)[0];
    assert_eq!(u32_at(fadt, 112) >> 20 & 1, 1);
    assert!(!contains(table_at(&area, u64_at(fadt, 140)), b"_S5_"));
}

#[test]
fn the_madt_has_every_processor_and_the_system_control_interrupt() {
    let area = area(&NODES, 64).unwrap();
    let madt = tables(&area)[1];
    let mut structures = Vec::new();
    let mut rest = &madt[44..];
    while let [kind, len, ..] = *rest {
        structures.push((kind, &rest[2..usize::from(len)]));
        rest = &rest[usize::from(len)..];
    }
    let cpus: Vec<u8> =
        structures.iter().filter(|(kind, _)| *kind == 0).map(|(_, b)| b[1]).collect();
    assert_eq!(cpus, (0..64).collect::<Vec<u8>>());
    let overrides: Vec<&[u8]> =
        structures.iter().filter(|(kind, _)| *kind == 2).map(|(_, bytes)| *bytes).collect();
    assert_eq!(overrides, [[0, 9, 9, 0, 0, 0, 5, 0]]);
}

#[test]
fn the_dsdt_has_every_device() {
    let area = area(&NODES, 1).unwrap();
    let dsdt = table_at(&area, u64_at(tables(&area)[0], 140));
    for id in [b"\x41\xd0\x05\x01", b"\x41\xd0\x03\x03", b"\x41\xd0\x0b\x00"] {
        assert!(contains(dsdt, id), "{id:x?}");
    }
    assert!(contains(dsdt, b"QEMU0001") && contains(dsdt, b"LNRO0005"));
    // Memory32Fixed, read and write; then Interrupt: consumer, edge, active high, exclusive.
    let registers = b"\x86\x09\x00\x01\x00\x00\x00\xc0\x00\x10\x00\x00\x89\x06\x00\x03\x01\x10";
    assert!(contains(dsdt, registers));
    assert!(contains(dsdt, b"_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00"));
}

#[test]
fn more_devices_than_there_is_room_for_are_refused_with_their_size() {
    assert!(area(&[NODES[5]; 500], 64).is_ok());
    let error = area(&[NODES[5]; 2000], 64).unwrap_err().to_string();
    assert!(error.contains("there is room for 65536"), "{error}");
    let error = area(&[NODES[5]; 5000], 64).unwrap_err().to_string();
    assert_eq!(error, "5000 devices cannot be named in ACPI; expected at most 4095");
}

#[test]
fn a_virtio_device_above_4_gib_is_refused() {
    let node = Node::VirtioMmio { base: 1 << 32, len: 0x1000, gsi: 16 };
    let error = area(&[node], 1).unwrap_err().to_string();
    assert!(error.contains("address of a virtio device 0x100000000 does not fit"), "{error}");
}

const PCI: Node = Node::PciRoot {
    ecam: 0xc000_0000,
    mem32: Window { first: 0xd000_0000, last: 0xdfff_ffff },
    mem64: Some(Window { first: 0x10_0000_0000, last: 0x1f_ffff_ffff }),
    io: Some(Window { first: 0xc000, last: 0xffff }),
    intx: Some(IntxLines([16, 17, 18, 19])),
};

#[test]
fn a_pci_root_has_an_mcfg_for_bus_0() {
    let area = area(&[PCI], 1).unwrap();
    let mcfg = tables(&area)[2];
    assert_eq!((&mcfg[..4], mcfg.len(), checksum(mcfg)), (&b"MCFG"[..], 60, 0));
    assert_eq!(u64_at(mcfg, 44), 0xc000_0000);
    // Segment, first and last bus, reserved.
    assert_eq!(mcfg[52..], [0; 8]);
}

#[test]
fn without_pci_there_is_no_mcfg() {
    assert_eq!(tables(&area(&NODES, 1).unwrap()).len(), 2);
}

#[test]
fn a_pci_root_is_in_the_dsdt_with_its_bus_and_windows() {
    let area = area(&[PCI], 1).unwrap();
    let dsdt = table_at(&area, u64_at(tables(&area)[0], 140));
    assert!(contains(dsdt, b"_HID\x0c\x41\xd0\x0a\x08\x08_CID\x0c\x41\xd0\x0a\x03"));
    assert!(contains(dsdt, b"_SEG\x00\x08_BBN\x00"));
    // WordBusNumber, producer: 0 to 0, 1 bus; then IO: 0xcf8, 8 ports.
    let bus = b"\x88\x0d\x00\x02\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00";
    assert!(contains(dsdt, bus));
    assert!(contains(dsdt, b"\x47\x01\xf8\x0c\xf8\x0c\x01\x08"));
    let ports = b"\x88\x0d\x00\x01\x0c\x03\x00\x00\x00\xc0\xff\xff\x00\x00\x00\x40";
    assert!(contains(dsdt, ports));
    let low = b"\x87\x17\x00\x00\x0c\x01\x00\x00\x00\x00\x00\x00\x00\xd0\xff\xff\xff\xdf\
        \x00\x00\x00\x00\x00\x00\x00\x10";
    assert!(contains(dsdt, low));
    let high = b"\x8a\x2b\x00\x00\x0c\x01\x00\x00\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\x10\x00\x00\x00\xff\xff\xff\xff\x1f\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00";
    assert!(contains(dsdt, high));
}

#[test]
fn a_pci_root_says_which_line_each_slot_interrupts_by() {
    let routes = |node| {
        let area = area(&[node], 1).unwrap();
        let dsdt = table_at(&area, u64_at(tables(&area)[0], 140));
        let at = dsdt.windows(4).position(|name| name == b"_PRT");
        at.map(|at| dsdt[at + 4..].to_vec())
    };
    let routes_of_pci = routes(PCI).unwrap();
    // Package of 31: slot 1, any function, INTA, no source, line 17; and so on.
    let first = b"\x04\x0c\xff\xff\x01\x00\x00\x00\x0a\x11";
    assert_eq!((routes_of_pci[0], routes_of_pci[3]), (0x12, 31));
    assert_eq!(routes_of_pci[6..16], *first);
    let last = b"\x04\x0c\xff\xff\x1f\x00\x00\x00\x0a\x13";
    assert!(contains(&routes_of_pci, last));
    let Node::PciRoot { ecam, mem32, mem64, io, .. } = PCI else { panic!("not a root") };
    assert_eq!(routes(Node::PciRoot { ecam, mem32, mem64, io, intx: None }), None);
}

#[test]
fn a_pci_root_says_what_the_os_may_control() {
    let area = area(&[PCI], 1).unwrap();
    let dsdt = table_at(&area, u64_at(tables(&area)[0], 140));
    let uuid = b"\x5b\x4d\xdb\x33\xf7\x1f\x1c\x40\x96\x57\x74\x41\xc0\x3d\xd7\x66";
    assert!(contains(dsdt, b"_OSC\x0c\x8a\x6b\x00CDW1"), "serialized, with 4 arguments");
    assert!(contains(dsdt, uuid));
    // And (CDW3, 0x3c, Local0), Return (Arg3)
    assert!(contains(dsdt, b"\x7bCDW3\x0a\x3c\x60"));
    assert!(contains(dsdt, b"\xa4\x6b"));
}

#[test]
fn pci_windows_that_their_descriptors_cannot_hold_are_refused() {
    let Node::PciRoot { ecam, mem32, mem64, io, intx } = PCI else { panic!("not a root") };
    let high = Window { first: mem32.first, last: 1 << 32 };
    let error =
        area(&[Node::PciRoot { ecam, mem32: high, mem64, io, intx }], 1).unwrap_err().to_string();
    assert!(error.contains("address of a PCI window 0x100000000 does not fit"), "{error}");
    let ports = Some(Window { first: 0, last: 0x1_0000 });
    let error = area(&[Node::PciRoot { ecam, mem32, mem64, io: ports, intx }], 1).unwrap_err();
    assert!(error.to_string().contains("port of a PCI window 0x10000 does not fit"), "{error}");
}

const HOTPLUG: Node = Node::PciHotplug { base: 0xc010_0000, gsi: 17 };

#[test]
fn a_hot_plug_controller_gives_the_root_slots_and_an_event() {
    let area = area(&[PCI, HOTPLUG], 1).unwrap();
    let dsdt = table_at(&area, u64_at(tables(&area)[0], 140));
    // OperationRegion (PCST, SystemMemory, 0xc0100000, 12)
    assert!(contains(dsdt, b"\x5b\x80PCST\x00\x0c\x00\x00\x10\xc0\x0a\x0c"));
    for slot in [b"S001", b"S01F"] {
        assert!(contains(dsdt, slot));
    }
    assert!(!contains(dsdt, b"S000"), "the host bridge stays where it is");
    assert!(contains(dsdt, b"_HID\x0dACPI0013\0"));
    // Extended interrupt: consumer, edge, active high, exclusive, line 17.
    assert!(contains(dsdt, b"\x89\x06\x00\x03\x01\x11\x00\x00\x00"));
}

#[test]
fn a_controller_without_a_bus_or_out_of_reach_is_not_described() {
    let without = area(&[HOTPLUG], 1).unwrap();
    assert!(!contains(&without, b"PCST"));
    let far = Node::PciHotplug { base: 1 << 32, gsi: 17 };
    let error = area(&[PCI, far], 1).unwrap_err().to_string();
    assert!(error.contains("the PCI hot-plug controller 0x100000000 does not fit"), "{error}");
}
