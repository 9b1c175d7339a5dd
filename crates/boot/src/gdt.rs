//! The descriptors that a kernel starts with (Linux x86 boot protocol: `__BOOT_CS` is 0x10,
//! `__BOOT_DS` 0x18).

use arch::DescriptorTable;
use memory::GuestMemory;

use crate::{BootError, place, ram};

const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
/// A busy task state segment at 0, which the processor never looks into.
const TASK: u64 = 0x0000_8b00_0000_0067;

/// Writes the table for a 64-bit start.
pub(crate) fn long_mode(memory: &GuestMemory) -> Result<DescriptorTable, BootError> {
    write(memory, CODE_64)
}

/// Writes the table for a 32-bit start.
pub(crate) fn protected_mode(memory: &GuestMemory) -> Result<DescriptorTable, BootError> {
    write(memory, CODE_32)
}

fn write(memory: &GuestMemory, code: u64) -> Result<DescriptorTable, BootError> {
    // The last entry is the upper half of the task descriptor in long mode.
    let entries = [0, 0, code, DATA, TASK, 0];
    let bytes = entries.map(u64::to_le_bytes);
    ram::put(memory, "the descriptor table", place::GDT, bytes.as_flattened())?;
    Ok(DescriptorTable { base: place::GDT, limit: 47 })
}
