//! ACPI tables (ACPI 6.5): RSDP, XSDT, FADT, FACS, MADT and DSDT, and MCFG if there is PCI, all
//! below 1 MiB.

mod dsdt;
mod fadt;
mod madt;

use acpi_tables::{Aml, facs::FACS, mcfg::MCFG, rsdp::Rsdp, sdt::Sdt, xsdt::XSDT};
use arch::Node;

use super::{Block, TablesError};
use crate::{Platform, place};

const OEM: [u8; 6] = *b"PURLIN";
const OEM_TABLE: [u8; 8] = *b"PURLINVM";
const OEM_REVISION: u32 = 1;
/// Room for the RSDP before the other tables.
const RSDP_ROOM: u64 = 64;
/// The FACS must be at a multiple of 64; the others may be.
const ALIGN: u64 = 64;

/// All tables, the RSDP first, ready to be written at [`place::ACPI`].
pub(super) fn build(platform: &Platform<'_>) -> Result<Block, TablesError> {
    let mut area = Area { bytes: Vec::new() };
    area.bytes.resize(to_usize(RSDP_ROOM), 0);
    let dsdt = area.add(&table(*b"DSDT", 2, &dsdt::body(platform.nodes)?))?;
    let facs = area.add(&FACS::new())?;
    let fadt = area.add(&fadt::table(platform.nodes, dsdt, facs)?)?;
    let madt = area.add(&table(*b"APIC", madt::REVISION, &madt::body(platform)?))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(u64::from(fadt));
    xsdt.add_entry(u64::from(madt));
    if let Some(mcfg) = mcfg(platform.nodes) {
        xsdt.add_entry(u64::from(area.add(&mcfg)?));
    }
    let xsdt = area.add(&xsdt)?;
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, u64::from(xsdt)).to_aml_bytes(&mut rsdp);
    for (to, from) in area.bytes.iter_mut().zip(rsdp) {
        *to = from;
    }
    Block::new("ACPI tables", place::ACPI, place::ACPI_ROOM, area.bytes)
}

/// Where configuration space is in memory (PCI Firmware 3.3, 4.1.2): that of bus 0, which is all.
fn mcfg(nodes: &[Node]) -> Option<MCFG> {
    let ecam = nodes.iter().find_map(|node| match node {
        Node::PciRoot { ecam, .. } => Some(*ecam),
        _ => None,
    })?;
    let mut table = MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    table.add_ecam(ecam, 0, 0, 0);
    Some(table)
}

fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Sdt {
    let mut table = Sdt::new(signature, 36, revision, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(body);
    table
}

/// The tables that are there already; the first byte is at [`place::ACPI`].
struct Area {
    bytes: Vec<u8>,
}

impl Area {
    /// Adds `table` and says its guest physical address, which is below 4 GiB.
    fn add(&mut self, table: &dyn Aml) -> Result<u32, TablesError> {
        let offset = self.bytes.len().next_multiple_of(to_usize(ALIGN));
        self.bytes.resize(offset, 0);
        table.to_aml_bytes(&mut self.bytes);
        let address = u64::try_from(offset).unwrap_or(u64::MAX).saturating_add(place::ACPI);
        super::bytes::narrow("ACPI tables", "address", address, u32::MAX)
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
