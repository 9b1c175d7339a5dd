//! Processors and interrupt controllers (ACPI 6.5, 5.2.12).

use acpi_tables::{
    Aml, AmlSink,
    madt::{EnabledStatus, IoApic, ProcessorLocalApic},
};
use arch::{IOAPIC_BASE, LAPIC_BASE, Node};

use crate::{
    Platform,
    tables::{TablesError, bytes::narrow, mp},
};

/// The revision of ACPI 6.3 and later.
pub(super) const REVISION: u8 = 5;

const TABLE: &str = "MADT";
/// There are two 8259 as well, which must be masked.
const PCAT_COMPAT: u32 = 1;
const INTERRUPT_SOURCE_OVERRIDE: u8 = 2;
const LOCAL_APIC_NMI: u8 = 4;
const BUS_ISA: u8 = 0;
const EVERY_PROCESSOR: u8 = 0xff;
/// Polarity and trigger mode as on the ISA bus: active high, edge.
const AS_THE_BUS: u16 = 0;
/// Active high, edge: interrupts come from event files, which pulse the line. Said aloud for the
/// system control interrupt, which would be level triggered and active low.
const HIGH_EDGE: u16 = 0b0101;

/// What follows the table's header.
pub(super) fn body(platform: &Platform<'_>) -> Result<Vec<u8>, TablesError> {
    let mut body = Vec::new();
    body.dword(narrow(TABLE, "local APIC address", LAPIC_BASE, u32::MAX)?);
    body.dword(PCAT_COMPAT);
    for index in 0..platform.topology.cpus() {
        let uid = narrow(TABLE, "processor number", index, u8::MAX)?;
        let id = narrow(TABLE, "APIC id", platform.topology.apic_id(index), u8::MAX)?;
        ProcessorLocalApic::new(uid, id, EnabledStatus::Enabled).to_aml_bytes(&mut body);
    }
    let ioapic = narrow(TABLE, "IOAPIC address", IOAPIC_BASE, u32::MAX)?;
    IoApic::new(mp::ioapic_id(platform), ioapic, 0).to_aml_bytes(&mut body);
    // The timer needs no override: KVM wires line 0 to pin 0, where a PC has it at pin 2.
    for node in platform.nodes {
        if let Node::AcpiPower { gsi, .. } = node {
            let source = narrow(TABLE, "system control interrupt", *gsi, u8::MAX)?;
            source_override(&mut body, source, *gsi, HIGH_EDGE);
        }
    }
    local_nmi(&mut body);
    Ok(body)
}

fn source_override(body: &mut Vec<u8>, source: u8, gsi: u32, flags: u16) {
    body.vec(&[INTERRUPT_SOURCE_OVERRIDE, 10, BUS_ISA, source]);
    body.dword(gsi);
    body.word(flags);
}

/// The NMI is LINT1 of every processor.
fn local_nmi(body: &mut Vec<u8>) {
    body.vec(&[LOCAL_APIC_NMI, 6, EVERY_PROCESSOR]);
    body.word(AS_THE_BUS);
    body.byte(1);
}
