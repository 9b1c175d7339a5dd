//! What the run page says: `struct kvm_run` decoded, without trusting more of it than needed.

use std::mem::offset_of;

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO,
    KVM_EXIT_IO_IN, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT,
    KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_run,
};

use crate::{Exit, FaultReason};

/// Where the part that depends on the exit starts.
const UNION: usize = offset_of!(kvm_run, __bindgen_anon_1);
/// The most words that `KVM_EXIT_INTERNAL_ERROR` has room for.
const INTERNAL_WORDS: usize = 16;

/// Makes the next `KVM_RUN` complete what is begun and return, or not.
pub(super) fn set_immediate_exit(page: &mut [u8], on: bool) {
    if let Some(flag) = page.get_mut(offset_of!(kvm_run, immediate_exit)) {
        *flag = u8::from(on);
    }
}

/// `KVM_EXIT_*`.
pub(super) fn reason(page: &[u8]) -> u32 {
    word(page, offset_of!(kvm_run, exit_reason))
}

/// Decodes the exit: one for the VMM to answer, or the reason why the guest cannot go on. Allocates
/// for the latter only.
pub(super) fn decode(page: &mut [u8]) -> Result<Exit<'_>, FaultReason> {
    let exit = reason(page);
    let unexpected = FaultReason::Unexpected { exit };
    match exit {
        KVM_EXIT_IO => port(page).ok_or(unexpected),
        KVM_EXIT_MMIO => mmio(page).ok_or(unexpected),
        KVM_EXIT_HLT => Ok(Exit::Halted),
        // The program counter follows two words.
        KVM_EXIT_DEBUG => Ok(Exit::Debug { pc: long(page, UNION + 8) }),
        KVM_EXIT_SYSTEM_EVENT => match word(page, UNION) {
            KVM_SYSTEM_EVENT_SHUTDOWN => Ok(Exit::PowerOff),
            KVM_SYSTEM_EVENT_RESET => Ok(Exit::Reset),
            KVM_SYSTEM_EVENT_CRASH => Err(FaultReason::GuestCrash),
            _ => Err(unexpected),
        },
        KVM_EXIT_SHUTDOWN => Err(FaultReason::TripleFault),
        KVM_EXIT_FAIL_ENTRY => {
            let (reason, cpu) = (long(page, UNION), word(page, UNION + 8));
            Err(FaultReason::EntryFailed { reason, cpu })
        }
        KVM_EXIT_INTERNAL_ERROR => Err(internal_error(page)),
        _ => Err(unexpected),
    }
}

/// Where the memory is that `KVM_EXIT_MEMORY_FAULT` is about, guest physical: it follows the flags.
pub(super) fn fault_address(page: &[u8]) -> u64 {
    long(page, UNION + 8)
}

/// `io`: direction, size, port (2), count (4), offset of the data in the page (8).
fn port(page: &mut [u8]) -> Option<Exit<'_>> {
    let &[direction, size, low, high] = page.get(UNION..)?.first_chunk()?;
    let (port, width) = (u16::from_le_bytes([low, high]), usize::from(size));
    let count = usize::try_from(word(page, UNION + 4)).ok()?;
    let start = usize::try_from(long(page, UNION + 8)).ok()?;
    let end = start.checked_add(count.checked_mul(width)?)?;
    let data = page.get_mut(start..end).filter(|_| width != 0)?;
    if u32::from(direction) == KVM_EXIT_IO_IN {
        // What nobody answers reads as all ones, not as what the buffer held before.
        data.fill(0xff);
        Some(Exit::PioIn { port, width, data })
    } else {
        Some(Exit::PioOut { port, width, data })
    }
}

/// `mmio`: address (8), data (8), length (4), whether it is a write (1).
fn mmio(page: &mut [u8]) -> Option<Exit<'_>> {
    let addr = long(page, UNION);
    let len = usize::try_from(word(page, UNION + 16)).ok()?;
    let write = *page.get(UNION + 20)? != 0;
    let data = page.get_mut(UNION + 8..UNION + 16)?.get_mut(..len)?;
    if write {
        Some(Exit::MmioWrite { addr, data })
    } else {
        data.fill(0xff);
        Some(Exit::MmioRead { addr, data })
    }
}

/// `internal`: suberror (4), number of words (4), words (8 each).
fn internal_error(page: &[u8]) -> FaultReason {
    let words = usize::try_from(word(page, UNION + 4)).unwrap_or(0).min(INTERNAL_WORDS);
    let data = (0..words).map(|index| long(page, UNION + 8 + 8 * index)).collect();
    FaultReason::InternalError { suberror: word(page, UNION), data }
}

fn word(page: &[u8], at: usize) -> u32 {
    page.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long(page: &[u8], at: usize) -> u64 {
    page.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
