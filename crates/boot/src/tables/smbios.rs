//! SMBIOS: who made this machine (DMTF DSP0134 3.x).

use super::{Block, TablesError, bytes::seal};
use crate::{Platform, place};

const VENDOR: &str = "Purlin";
const PRODUCT: &str = "Purlin VM";
/// The entry point comes first, the structures after it.
const ENTRY_LEN: u8 = 24;
const STRUCTURES: u64 = place::SMBIOS + 0x20;
const ROOM: u64 = place::SMBIOS_ROOM - 0x20;

const BIOS: u8 = 0;
const SYSTEM: u8 = 1;
const CHASSIS: u8 = 3;
const PROCESSOR: u8 = 4;
const MEMORY_ARRAY: u8 = 16;
const MEMORY_DEVICE: u8 = 17;
const END: u8 = 127;

/// The 64-bit entry point and the structures.
pub(super) fn build(platform: &Platform<'_>) -> Result<[Block; 2], TablesError> {
    let structures = structures(platform);
    let len = u32::try_from(structures.len()).unwrap_or(u32::MAX);
    let table = Block::new("SMBIOS structures", STRUCTURES, ROOM, structures)?;
    let mut entry = b"_SM3_".to_vec();
    // Checksum, length, version 3.2.0, entry point revision 1, reserved.
    entry.extend([0, ENTRY_LEN, 3, 2, 0, 1, 0]);
    entry.extend(len.to_le_bytes());
    entry.extend(STRUCTURES.to_le_bytes());
    seal(&mut entry, 5);
    Ok([Block::new("SMBIOS entry point", place::SMBIOS, 0x20, entry)?, table])
}

fn structures(platform: &Platform<'_>) -> Vec<u8> {
    let mut table = Structures::default();
    table.add(BIOS, &bios(), &[VENDOR, env!("CARGO_PKG_VERSION"), "01/01/2026"]);
    table.add(SYSTEM, &system(), &[VENDOR, PRODUCT, env!("CARGO_PKG_VERSION")]);
    table.add(CHASSIS, &chassis(), &[VENDOR]);
    for socket in 0..platform.topology.sockets() {
        let name = format!("CPU{socket}");
        table.add(PROCESSOR, &processor(platform), &[&name, VENDOR]);
    }
    let ram = platform.layout.ram_bytes();
    let array = table.add(MEMORY_ARRAY, &memory_array(ram), &[]);
    table.add(MEMORY_DEVICE, &memory_device(ram, array), &["RAM", VENDOR]);
    table.add(END, &[], &[]);
    table.bytes
}

#[derive(Debug, Default)]
struct Structures {
    bytes: Vec<u8>,
    handle: u16,
}

impl Structures {
    /// Adds a structure of `kind` with the fields after its header and its strings; says its
    /// handle.
    fn add(&mut self, kind: u8, fields: &[u8], strings: &[&str]) -> u16 {
        let handle = self.handle;
        self.handle = self.handle.saturating_add(1);
        let len = u8::try_from(fields.len().saturating_add(4)).unwrap_or(u8::MAX);
        self.bytes.extend([kind, len]);
        self.bytes.extend(handle.to_le_bytes());
        self.bytes.extend(fields);
        for string in strings {
            self.bytes.extend(string.bytes());
            self.bytes.push(0);
        }
        // An empty list of strings still has its own NUL before the one that ends it.
        let end: &[u8] = if strings.is_empty() { &[0, 0] } else { &[0] };
        self.bytes.extend(end);
        handle
    }
}

fn bios() -> Vec<u8> {
    let mut fields = vec![1, 2]; // vendor, version
    fields.extend(0xe800_u16.to_le_bytes()); // segment
    fields.extend([3, 0]); // date; size of the ROM: 64 KiB
    fields.extend((1_u64 << 3).to_le_bytes()); // characteristics are not supported
    // ACPI is supported; this is a virtual machine.
    fields.extend([0x01, 0x10]);
    // Releases of BIOS and embedded controller: none. Extended ROM size: none.
    fields.extend([0xff, 0xff, 0xff, 0xff, 0, 0]);
    fields
}

fn system() -> Vec<u8> {
    let mut fields = vec![1, 2, 3, 0]; // manufacturer, product, version, no serial number
    fields.extend([0; 16]); // no UUID
    fields.extend([6, 0, 0]); // woken by the power switch; no SKU, no family
    fields
}

fn chassis() -> Vec<u8> {
    // Manufacturer, type "other", no version, serial number or tag.
    let mut fields = vec![1, 1, 0, 0, 0];
    // Boot-up, power supply and thermal state safe; security none.
    fields.extend([3, 3, 3, 3]);
    // OEM, height, power cords, contained elements and their length, SKU: none.
    fields.extend([0; 9]);
    fields
}

fn processor(platform: &Platform<'_>) -> Vec<u8> {
    let cores = platform.topology.cores();
    let threads = cores.saturating_mul(platform.topology.threads());
    let count = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
    let mut fields = vec![1, 3, 1, 2]; // socket, central processor, family "other", manufacturer
    fields.extend([0; 8]); // id
    fields.extend([0, 0]); // version, voltage
    fields.extend([0; 6]); // external clock, speeds: unknown
    fields.extend([0x41, 1]); // populated and enabled; upgrade "other"
    fields.extend([0xff; 6]); // no handles of caches
    fields.extend([0, 0, 0]); // serial number, asset tag, part number
    fields.extend([count(cores), count(cores), count(threads)]);
    let (many_cores, many_threads) = (cores > 1, threads > cores);
    let characteristics = 1 << 2 | u16::from(many_cores) << 3 | u16::from(many_threads) << 4;
    fields.extend(characteristics.to_le_bytes()); // 64 bits, several cores, several threads
    fields.extend(1_u16.to_le_bytes()); // family "other"
    for n in [cores, cores, threads] {
        fields.extend(u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes());
    }
    fields
}

fn memory_array(ram: u64) -> Vec<u8> {
    let mut fields = vec![1, 3, 3]; // other location, system memory, no error correction
    fields.extend(0x8000_0000_u32.to_le_bytes()); // see the extended capacity
    fields.extend(0xfffe_u16.to_le_bytes()); // no error information
    fields.extend(1_u16.to_le_bytes()); // one device
    fields.extend(ram.to_le_bytes());
    fields
}

fn memory_device(ram: u64, array: u16) -> Vec<u8> {
    let mut fields = array.to_le_bytes().to_vec();
    fields.extend(0xfffe_u16.to_le_bytes()); // no error information
    fields.extend([64, 0, 64, 0]); // widths
    let mib = ram >> 20;
    // 0x7fff: see the extended size.
    fields.extend(u16::try_from(mib).unwrap_or(0x7fff).min(0x7fff).to_le_bytes());
    fields.extend([1, 0, 1, 0, 7]); // form "other", no set, locator, no bank, type "RAM"
    fields.extend(2_u16.to_le_bytes()); // detail "other"
    fields.extend([0, 0, 2, 0, 0, 0, 0]); // speed unknown, manufacturer, no more strings, rank
    fields.extend(u32::try_from(mib).unwrap_or(u32::MAX >> 1).to_le_bytes());
    fields.extend([0; 8]); // speed and voltages unknown
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::bytes::checksum;
    use arch::{Layout, Topology};

    fn blocks(sockets: u32) -> [Block; 2] {
        let layout = Layout::for_ram(5 << 30).unwrap();
        let topology = Topology::new(1, 1, sockets).unwrap();
        build(&Platform { layout: &layout, topology: &topology, nodes: &[] }).unwrap()
    }

    /// The kinds of the structures, in order, as a reader walks them.
    fn kinds(mut rest: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let [kind, len, ..] = *rest {
            kinds.push(kind);
            let strings = &rest[usize::from(len)..];
            let end = strings.windows(2).position(|pair| pair == [0, 0]).unwrap();
            rest = &strings[end + 2..];
        }
        kinds
    }

    #[test]
    fn the_entry_point_sums_to_zero_and_gives_address_and_length() {
        let [entry, table] = blocks(1);
        assert_eq!(checksum(&entry.bytes), 0);
        assert_eq!(entry.bytes[..5], *b"_SM3_");
        assert_eq!(entry.bytes[12..16], u32::try_from(table.bytes.len()).unwrap().to_le_bytes());
        assert_eq!(entry.bytes[16..24], table.address.to_le_bytes());
    }

    #[test]
    fn the_structures_can_be_walked_to_their_end() {
        assert_eq!(kinds(&blocks(2)[1].bytes), [0, 1, 3, 4, 4, 16, 17, 127]);
    }

    #[test]
    fn sixty_four_sockets_fit() {
        assert_eq!(kinds(&blocks(64)[1].bytes).len(), 70);
    }

    #[test]
    fn the_vendor_is_named() {
        let [_, table] = blocks(1);
        assert!(table.bytes.windows(10).any(|window| window == b"Purlin VM\0"));
    }
}
