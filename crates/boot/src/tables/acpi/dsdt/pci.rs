//! The PCI root (PCI Firmware 3.3, 4.1; ACPI 6.5, 6.4.3.5).

use acpi_tables::{
    Aml,
    aml::{AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Name, ResourceTemplate},
};
use arch::Window;

use super::{hotplug::Raw, osc};
use crate::tables::{TablesError, bytes::narrow};

/// The ports of the configuration mechanism, which the root itself uses.
const CONFIG_PORTS: (u16, u8) = (0xcf8, 8);

/// A root complex with bus 0 alone, and these windows for what is on it. No `_PRT`: there is no INTx.
pub(super) fn root(
    body: &mut Vec<u8>,
    name: &str,
    mem32: Window,
    mem64: Option<Window>,
    io: Option<Window>,
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
            &Raw(osc::method()),
        ],
    )
    .to_aml_bytes(body);
    Ok(())
}
