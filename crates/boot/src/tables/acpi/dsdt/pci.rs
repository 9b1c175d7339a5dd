//! The PCI root (PCI Firmware 3.3, 4.1; ACPI 6.5, 6.2.13, 6.4.3.5).

use acpi_tables::{
    Aml,
    aml::{
        AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Name, Package, ResourceTemplate,
    },
};
use arch::{IntxLines, Window};

use super::{hotplug::Raw, osc};
use crate::tables::{TablesError, bytes::narrow};

/// The ports of the configuration mechanism, which the root itself uses.
const CONFIG_PORTS: (u16, u8) = (0xcf8, 8);

/// The slots of the bus; number 0 is the bus's own.
const SLOTS: std::ops::RangeInclusive<u8> = 1..=31;
/// In an address, every function of the device.
const EVERY_FUNCTION: u32 = 0xffff;

/// A root complex with bus 0 alone, these windows for what is on it (memory below and above 4 GiB,
/// ports), and these lines for the interrupt pins.
pub(super) fn root(
    body: &mut Vec<u8>,
    name: &str,
    (mem32, mem64, io): (Window, Option<Window>, Option<Window>),
    intx: Option<IntxLines>,
) -> Result<(), TablesError> {
    let (port, len) = CONFIG_PORTS;
    let config = IO::new(port, port, 1, len);
    let bus = AddressSpace::new_bus_number(0_u16, 0);
    let low = |value| narrow("DSDT", "address of a PCI window", value, u32::MAX);
    let uncached = AddressSpaceCacheable::NotCacheable;
    let mem32 = AddressSpace::new_memory(uncached, true, low(mem32.first)?, low(mem32.last)?, None);
    let mem64 = mem64.map(|it| AddressSpace::new_memory(uncached, true, it.first, it.last, None));
    let port = |value| narrow("DSDT", "port of a PCI window", value, u16::MAX);
    let io = match io {
        Some(window) => Some(AddressSpace::new_io(port(window.first)?, port(window.last)?, None)),
        None => None,
    };
    let mut windows: Vec<&dyn Aml> = vec![&bus, &config];
    windows.extend(io.iter().map(|window| -> &dyn Aml { window }));
    windows.push(&mem32);
    windows.extend(mem64.iter().map(|window| -> &dyn Aml { window }));
    let resources = ResourceTemplate::new(windows);
    let routes = intx.map_or_else(Vec::new, |lines| routing(&lines));
    let (express, conventional) = (EISAName::new("PNP0A08"), EISAName::new("PNP0A03"));
    Device::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &express),
            &Name::new("_CID".into(), &conventional),
            &Name::new("_UID".into(), &0_u8),
            &Name::new("_SEG".into(), &0_u8),
            &Name::new("_BBN".into(), &0_u8),
            &Name::new("_CRS".into(), &resources),
            &Raw(routes),
            &Raw(osc::method()),
        ],
    )
    .to_aml_bytes(body);
    Ok(())
}

/// `_PRT`: to which line INTA of each slot goes, which is level triggered and active low, as an OS takes
/// for granted of lines that no link device has. Functions here have no other pin.
fn routing(lines: &IntxLines) -> Vec<u8> {
    let routes: Vec<_> = SLOTS
        .map(|slot| {
            let address = u32::from(slot) << 16 | EVERY_FUNCTION;
            [address, lines.line(slot)]
        })
        .collect();
    // Address, pin (INTA is 0), source (none: the number is that of the line itself), number.
    let packages: Vec<Package<'_>> = routes
        .iter()
        .map(|[address, gsi]| Package::new(vec![address, &0_u8, &0_u8, gsi]))
        .collect();
    let list = Package::new(packages.iter().map(|package| -> &dyn Aml { package }).collect());
    let mut bytes = Vec::new();
    Name::new("_PRT".into(), &list).to_aml_bytes(&mut bytes);
    bytes
}
