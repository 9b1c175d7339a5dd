//! The MP table, for kernels without ACPI (Intel MultiProcessor Specification 1.4, chapter 4).

use arch::{IOAPIC_BASE, IntxLines, LAPIC_BASE, Node};

use super::{
    Block, TablesError,
    bytes::{narrow, seal},
};
use crate::{Platform, place};

const TABLE: &str = "MP table";
const VERSION_1_4: u8 = 4;
/// The version register of an APIC with an 8-bit id.
const APIC_VERSION: u8 = 0x14;
const ENABLED: u8 = 1;
const BOOT_PROCESSOR: u8 = 2;
/// Bus 0 is that of PCI, whose number is also the bus's own there; without PCI, it is ISA.
const BUS_PCI: u8 = 0;
const PCI_SLOTS: std::ops::RangeInclusive<u8> = 1..=31;
const EVERY_APIC: u8 = 0xff;
/// Pins of the IOAPIC.
const PINS: u8 = 24;

const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IOAPIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

const TYPE_INT: u8 = 0;
const TYPE_NMI: u8 = 1;
const TYPE_EXTINT: u8 = 3;

/// The floating pointer and the table. 64 processors do not fit the first KiB of the EBDA, where
/// the pointer must be, so the table is elsewhere.
pub(super) fn build(platform: &Platform<'_>) -> Result<[Block; 2], TablesError> {
    let table = table(platform)?;
    Ok([
        Block::new("MP floating pointer", place::MP_POINTER, 16, pointer())?,
        Block::new(TABLE, place::MP_TABLE, place::MP_TABLE_ROOM, table)?,
    ])
}

fn pointer() -> Vec<u8> {
    let mut bytes = b"_MP_".to_vec();
    let table = u32::try_from(place::MP_TABLE).unwrap_or(0);
    bytes.extend(table.to_le_bytes());
    // Length in paragraphs, version, checksum, and features: none.
    bytes.extend([1, VERSION_1_4, 0, 0, 0, 0, 0, 0]);
    seal(&mut bytes, 10);
    bytes
}

fn table(platform: &Platform<'_>) -> Result<Vec<u8>, TablesError> {
    let entries = entries(platform)?;
    let len = 44 + entries.iter().map(Vec::len).sum::<usize>();
    let len = narrow(TABLE, "length", to_u64(len), u16::MAX)?;
    let count = narrow(TABLE, "number of entries", to_u64(entries.len()), u16::MAX)?;
    let mut bytes = b"PCMP".to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend([VERSION_1_4, 0]);
    bytes.extend(b"PURLIN  ");
    bytes.extend(b"VM          ");
    // No OEM table.
    bytes.extend([0; 6]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(address(LAPIC_BASE).to_le_bytes());
    // No extended entries.
    bytes.extend([0; 4]);
    bytes.extend(entries.concat());
    seal(&mut bytes, 7);
    Ok(bytes)
}

/// The entries, in the order of their types, as the specification asks.
fn entries(platform: &Platform<'_>) -> Result<Vec<Vec<u8>>, TablesError> {
    let mut entries = Vec::new();
    for index in 0..platform.topology.cpus() {
        let id = platform.topology.apic_id(index);
        let id = narrow(TABLE, "APIC id", id, u8::MAX)?;
        entries.push(processor(id, index == 0));
    }
    let intx = intx(platform);
    let isa = if intx.is_some() { BUS_PCI + 1 } else { BUS_PCI };
    entries.extend(intx.map(|_| bus(BUS_PCI, b"PCI   ")));
    entries.push(bus(isa, b"ISA   "));
    let ioapic = ioapic_id(platform);
    let mut io = vec![IOAPIC, ioapic, APIC_VERSION, ENABLED];
    io.extend(address(IOAPIC_BASE).to_le_bytes());
    entries.push(io);
    // KVM wires every line to the pin of its number, the timer's too, which a PC has at pin 2. Pins
    // from 16 on are no ISA interrupts, but they are edge triggered and active high like them, as far
    // as they are not those of PCI.
    let shared = |pin: &u8| intx.is_some_and(|IntxLines(gsis)| gsis.contains(&(*pin).into()));
    for pin in (0..PINS).filter(|pin| !shared(pin)) {
        entries.push(interrupt(IO_INTERRUPT, TYPE_INT, [isa, pin], [ioapic, pin]));
    }
    for (slot, lines) in PCI_SLOTS.flat_map(|slot| intx.map(|lines| (slot, lines))) {
        // Pin INTA of the slot, which is 0 in the lowest two bits.
        let pin = narrow(TABLE, "interrupt line", lines.line(slot), u8::MAX)?;
        entries.push(interrupt(IO_INTERRUPT, TYPE_INT, [BUS_PCI, slot << 2], [ioapic, pin]));
    }
    entries.push(interrupt(LOCAL_INTERRUPT, TYPE_EXTINT, [isa, 0], [0, 0]));
    entries.push(interrupt(LOCAL_INTERRUPT, TYPE_NMI, [isa, 0], [EVERY_APIC, 1]));
    Ok(entries)
}

fn intx(platform: &Platform<'_>) -> Option<IntxLines> {
    platform.nodes.iter().find_map(|node| match node {
        Node::PciRoot { intx, .. } => *intx,
        _ => None,
    })
}

fn bus(number: u8, name: &[u8; 6]) -> Vec<u8> {
    [&[BUS, number], &name[..]].concat()
}

/// The id after the last processor's; ids below 255 are the topology's promise.
pub(super) fn ioapic_id(platform: &Platform<'_>) -> u8 {
    let last = platform.topology.apic_id(platform.topology.cpus().saturating_sub(1));
    u8::try_from(last.saturating_add(1)).unwrap_or(u8::MAX)
}

fn processor(id: u8, first: bool) -> Vec<u8> {
    // CPUID family, model and stepping; what CPUID says counts, so only the form matters here.
    const SIGNATURE: u32 = 0x600;
    const FEATURES: u32 = 0x201; // FPU and APIC
    let flags = if first { ENABLED | BOOT_PROCESSOR } else { ENABLED };
    let mut bytes = vec![PROCESSOR, id, APIC_VERSION, flags];
    bytes.extend(SIGNATURE.to_le_bytes());
    bytes.extend(FEATURES.to_le_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// Polarity and trigger are those of the bus: active high and edge on ISA, active low and level on PCI.
fn interrupt(entry: u8, kind: u8, from: [u8; 2], to: [u8; 2]) -> Vec<u8> {
    let ([bus, source], [apic, pin]) = (from, to);
    vec![entry, kind, 0, 0, bus, source, apic, pin]
}

fn address(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(0)
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::bytes::checksum;
    use arch::{Layout, Topology, Window};

    fn blocks(topology: Topology) -> [Block; 2] {
        blocks_with(topology, &[])
    }

    fn blocks_with(topology: Topology, nodes: &[Node]) -> [Block; 2] {
        let layout = Layout::for_ram(64 << 20).unwrap();
        build(&Platform { layout: &layout, topology: &topology, nodes }).unwrap()
    }

    #[test]
    fn the_pointer_leads_to_the_table_and_both_sum_to_zero() {
        let [pointer, table] = blocks(Topology::flat(64).unwrap());
        assert_eq!(pointer.bytes[..8], *b"_MP_\x00\x80\x0f\x00");
        assert_eq!(table.address, 0xf_8000);
        assert_eq!((checksum(&pointer.bytes), checksum(&table.bytes)), (0, 0));
        let len = u16::from_le_bytes([table.bytes[4], table.bytes[5]]);
        assert_eq!(usize::from(len), table.bytes.len());
    }

    #[test]
    fn processors_have_the_topology_s_apic_ids_and_the_first_boots() {
        let [_, table] = blocks(Topology::new(1, 3, 2).unwrap());
        let processors: Vec<[u8; 4]> =
            table.bytes[44..44 + 6 * 20].chunks(20).map(|e| e[..4].try_into().unwrap()).collect();
        let flags_and_ids = processors.iter().map(|entry| (entry[3], entry[1]));
        let expected = [(3, 0), (1, 1), (1, 2), (1, 4), (1, 5), (1, 6)];
        assert!(flags_and_ids.eq(expected), "{processors:?}");
    }

    #[test]
    fn every_line_is_wired_to_the_pin_of_its_number() {
        let [_, table] = blocks(Topology::flat(1).unwrap());
        let entries = table.bytes[44 + 36..].chunks(8);
        let interrupts: Vec<&[u8]> = entries.filter(|entry| entry[0] == 3).collect();
        let expected: Vec<[u8; 8]> = (0..24).map(|pin| [3, 0, 0, 0, 0, pin, 1, pin]).collect();
        assert_eq!(interrupts, expected);
    }

    #[test]
    fn slots_of_pci_have_the_shared_lines_and_nobody_else_does() {
        let window = Window { first: 0xd000_0000, last: 0xdfff_ffff };
        let intx = Some(IntxLines([16, 17, 18, 19]));
        let root = Node::PciRoot { ecam: 0xc000_0000, mem32: window, mem64: None, io: None, intx };
        let [_, table] = blocks_with(Topology::flat(1).unwrap(), &[root]);
        let entries: Vec<&[u8]> = table.bytes[44 + 20..].chunks(8).collect();
        assert_eq!(entries[..2], [b"\x01\x00PCI   ", b"\x01\x01ISA   "]);
        let interrupts = |bus| entries.iter().filter(move |entry| entry[0] == 3 && entry[4] == bus);
        let isa: Vec<u8> = interrupts(1).map(|entry| entry[7]).collect();
        assert_eq!(isa, (0..16).chain(20..24).collect::<Vec<u8>>());
        let pci: Vec<(u8, u8)> = interrupts(0).map(|entry| (entry[5], entry[7])).collect();
        let expected = (1..32).map(|slot| (slot << 2, 16 + slot % 4));
        assert!(pci.iter().copied().eq(expected), "{pci:?}");
    }
}
