//! The devices, in AML (ACPI 6.5, chapters 6 and 19).

mod hotplug;
mod osc;
mod pci;

use acpi_tables::{
    Aml,
    aml::{Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, ResourceTemplate, Scope},
};
use arch::Node;

use crate::tables::{TablesError, bytes::narrow};

/// What a name of one letter and three hexadecimal digits can tell apart.
const MOST_NODES: usize = 0xfff;
/// `SLP_TYP` of soft off.
const SOFT_OFF: u8 = 5;
/// Present, enabled, functioning, but not shown to the user (`_STA`, ACPI 6.5, 6.3.7).
const HIDDEN: u8 = 0x0b;

/// What follows the table's header: a device in `\_SB` for each node, and soft off if a node can do
/// it.
pub(super) fn body(nodes: &[Node]) -> Result<Vec<u8>, TablesError> {
    if nodes.len() > MOST_NODES {
        return Err(TablesError::TooManyNodes { nodes: nodes.len(), most: MOST_NODES });
    }
    let mut devices = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        device(&mut devices, index, node)?;
    }
    let mut body = Scope::raw("\\_SB_".into(), devices);
    for (index, node) in nodes.iter().enumerate() {
        if let Node::PciHotplug { base, gsi } = *node {
            hotplug(&mut body, nodes, index, (base, gsi))?;
        }
    }
    if nodes.iter().any(|node| matches!(node, Node::AcpiPower { .. })) {
        let state = Package::new(vec![&SOFT_OFF, &SOFT_OFF, &0_u8, &0_u8]);
        Name::new("\\_S5_".into(), &state).to_aml_bytes(&mut body);
    }
    Ok(body)
}

fn device(body: &mut Vec<u8>, index: usize, node: &Node) -> Result<(), TablesError> {
    match *node {
        Node::Uart { port, gsi } => {
            let resources = resources(&[&ports(port, 8), &line(gsi)]);
            declare(
                body,
                name('U', index),
                &EISAName::new("PNP0501"),
                vec![&Name::new("_UID".into(), &index), &resources],
            );
        }
        Node::Keyboard { gsi } => {
            let resources = resources(&[&ports(0x60, 1), &ports(0x64, 1), &line(gsi)]);
            declare(body, name('K', index), &EISAName::new("PNP0303"), vec![&resources]);
        }
        Node::Rtc { port } => {
            let resources = resources(&[&ports(port, 2)]);
            declare(body, name('R', index), &EISAName::new("PNP0B00"), vec![&resources]);
        }
        Node::Pvpanic { port } => {
            let resources = resources(&[&ports(port, 1)]);
            let status = Name::new("_STA".into(), &HIDDEN);
            declare(body, name('P', index), &"QEMU0001", vec![&status, &resources]);
        }
        Node::VirtioMmio { base, len, gsi } => {
            let resources = resources(&[&window(base, len)?, &line(gsi)]);
            declare(
                body,
                name('V', index),
                &"LNRO0005",
                vec![&Name::new("_UID".into(), &index), &resources],
            );
        }
        Node::PciRoot { mem32, mem64, io, intx, .. } => {
            pci::root(body, &name('C', index), (mem32, mem64, io), intx)?;
        }
        // Fixed hardware is in the FADT.
        _ => {}
    }
    Ok(())
}

/// The slots of the PCI root, if there is one.
fn hotplug(
    body: &mut Vec<u8>,
    nodes: &[Node],
    index: usize,
    (base, gsi): (u64, u32),
) -> Result<(), TablesError> {
    let root = nodes.iter().position(|node| matches!(node, Node::PciRoot { .. }));
    let Some(root) = root else { return Ok(()) };
    let base = narrow("DSDT", "address of the PCI hot-plug controller", base, u32::MAX)?;
    let root = format!("\\_SB_.{}", name('C', root));
    hotplug::controller(body, &root, &format!("\\_SB_.{}", name('E', index)), base, gsi);
    Ok(())
}

fn declare(body: &mut Vec<u8>, name: String, id: &dyn Aml, rest: Vec<&dyn Aml>) {
    let id = Name::new("_HID".into(), id);
    let mut children: Vec<&dyn Aml> = vec![&id];
    children.extend(rest);
    Device::new(name.as_str().into(), children).to_aml_bytes(body);
}

/// Four characters, as a name in AML has, for indices up to [`MOST_NODES`].
fn name(letter: char, index: usize) -> String {
    format!("{letter}{index:03X}")
}

fn resources(children: &[&dyn Aml]) -> Name {
    Name::new("_CRS".into(), &ResourceTemplate::new(children.to_vec()))
}

fn ports(first: u16, len: u8) -> IO {
    IO::new(first, first, 1, len)
}

/// Edge triggered and active high, as every line here: an event file pulses it.
fn line(gsi: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, gsi)
}

fn window(base: u64, len: u64) -> Result<Memory32Fixed, TablesError> {
    let base = narrow("DSDT", "address of a virtio device", base, u32::MAX)?;
    let len = narrow("DSDT", "length of a virtio device", len, u32::MAX)?;
    Ok(Memory32Fixed::new(true, base, len))
}
