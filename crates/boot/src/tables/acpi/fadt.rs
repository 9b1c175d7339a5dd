//! The fixed description: power management hardware and boot flags (ACPI 6.5, 5.2.9).

use acpi_tables::{
    fadt::{FADT, FADTBuilder, Flags, PmProfile},
    gas::{AccessSize, AddressSpace, GAS},
};
use arch::Node;

use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::tables::{TablesError, bytes::narrow};

/// Boot flags for x86 (ACPI 6.5, 5.2.9.3): set, what a kernel need not look for.
const LEGACY_DEVICES: u16 = 1 << 0;
const KEYBOARD_8042: u16 = 1 << 1;
const NO_VGA: u16 = 1 << 2;
const NO_CMOS_RTC: u16 = 1 << 5;

/// Offsets and lengths of the blocks of [`Node::AcpiPower`].
const EVENT: (u16, u8) = (0, 4);
const CONTROL: (u16, u8) = (4, 2);
const RESET: u16 = 12;
const RESET_VALUE: u8 = 1;

/// The table, with the DSDT and the FACS at these addresses.
pub(super) fn table(nodes: &[Node], dsdt: u32, facs: u32) -> Result<FADT, TablesError> {
    let mut table = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .preferred_pm_profile(PmProfile::Unspecified)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc);
    // Both widths, equal: old kernels read the one, new ones the other.
    table.dsdt = dsdt.into();
    table.x_dsdt = u64::from(dsdt).into();
    table.iapc_boot_arch = boot_flags(nodes).into();
    let power = nodes.iter().find_map(|node| match node {
        Node::AcpiPower { base, gsi } => Some((*base, *gsi)),
        _ => None,
    });
    let table = match power {
        Some((base, gsi)) => {
            let sci = narrow("FADT", "system control interrupt", gsi, u16::MAX)?;
            table.firmware_ctrl = facs.into();
            table.sci_int = sci.into();
            fixed(table, base)
        }
        // Without the fixed hardware there is no event, no timer and no sleeping.
        None => table.flag(Flags::HwReducedAcpi).flag(Flags::PwrButton),
    };
    Ok(table.finalize())
}

fn boot_flags(nodes: &[Node]) -> u16 {
    let has = |what: fn(&Node) -> bool| nodes.iter().any(what);
    let mut flags = NO_VGA;
    if has(|node| matches!(node, Node::Uart { .. } | Node::Keyboard { .. })) {
        flags |= LEGACY_DEVICES;
    }
    if has(|node| matches!(node, Node::Keyboard { .. })) {
        flags |= KEYBOARD_8042;
    }
    if !has(|node| matches!(node, Node::Rtc { .. })) {
        flags |= NO_CMOS_RTC;
    }
    flags
}

/// The fixed hardware at `base`: no SMI command, so the machine is in ACPI mode from the start.
fn fixed(mut table: FADTBuilder, base: u16) -> FADTBuilder {
    let port = |offset: u16| base.wrapping_add(offset);
    table.pm1a_evt_blk = u32::from(port(EVENT.0)).into();
    table.pm1_evt_len = EVENT.1;
    table.x_pm1a_evt_blk = register(port(EVENT.0), EVENT.1, AccessSize::WordAccess);
    table.pm1a_cnt_blk = u32::from(port(CONTROL.0)).into();
    table.pm1_cnt_len = CONTROL.1;
    table.x_pm1a_cnt_blk = register(port(CONTROL.0), CONTROL.1, AccessSize::WordAccess);
    // No PM timer: every read of it would be an exit, and guests have better clocks. Length 0 says so.
    table.reset_reg = register(port(RESET), 1, AccessSize::ByteAccess);
    table.reset_value = RESET_VALUE;
    // Latencies beyond these mean that there is no C2 and no C3.
    table.p_lvl2_lat = 101.into();
    table.p_lvl3_lat = 1001.into();
    table.flag(Flags::ResetRegSup)
}

fn register(port: u16, bytes: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bytes.saturating_mul(8), 0, access, u64::from(port))
}
