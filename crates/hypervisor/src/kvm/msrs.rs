//! Model-specific registers, as many as the host has.

use kvm_bindings::{KVM_MAX_MSR_ENTRIES, Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::{class, os};
use crate::StateError;

/// `IA32_TIME_STAMP_COUNTER`: clocks are derived from it.
const TSC: u32 = 0x10;
/// `IA32_TSC_DEADLINE`: means something only while the local APIC's timer is in that mode.
const TSC_DEADLINE: u32 = 0x6e0;

/// Which of the registers to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// All but those of the other.
    BeforeLocalApic,
    /// What depends on the local APIC's mode.
    AfterLocalApic,
}

/// Reads the registers of `list`, without those that this vCPU turns out not to have.
pub(super) fn read(vcpu: &VcpuFd, list: &[u32]) -> Result<Vec<(u32, u64)>, StateError> {
    let mut found = Vec::with_capacity(list.len());
    let mut rest = list;
    while !rest.is_empty() {
        let chunk = rest.get(..KVM_MAX_MSR_ENTRIES).unwrap_or(rest);
        let mut msrs = table(chunk.iter().map(|index| (*index, 0)))?;
        let read =
            vcpu.get_msrs(&mut msrs).map_err(|error| class::unreadable("MSRs", os(error)))?;
        found.extend(msrs.as_slice().iter().take(read).map(|entry| (entry.index, entry.data)));
        rest = behind(rest, chunk.len(), read);
    }
    Ok(found)
}

/// Writes saved registers. One that cannot be written must have the saved value already.
pub(super) fn write(vcpu: &VcpuFd, saved: &[(u32, u64)], pass: Pass) -> Result<(), StateError> {
    let late = |index: u32| index == TSC_DEADLINE;
    let mut ordered: Vec<(u32, u64)> = saved
        .iter()
        .copied()
        .filter(|(index, _)| late(*index) == (pass == Pass::AfterLocalApic))
        .collect();
    ordered.sort_by_key(|(index, _)| *index != TSC); // stable: only the one moves to the front
    let mut rest = ordered.as_slice();
    while !rest.is_empty() {
        let chunk = rest.get(..KVM_MAX_MSR_ENTRIES).unwrap_or(rest);
        let msrs = table(chunk.iter().copied())?;
        // An error is the first one failing, in some kernels.
        let written = vcpu.set_msrs(&msrs).unwrap_or(0);
        if let Some(&(index, value)) = chunk.get(written) {
            check(vcpu, index, value)?;
        }
        rest = behind(rest, chunk.len(), written);
    }
    Ok(())
}

/// Fails unless the register has the value anyway.
fn check(vcpu: &VcpuFd, index: u32, value: u64) -> Result<(), StateError> {
    match read(vcpu, &[index])?.first() {
        Some((_, found)) if *found == value => Ok(()),
        // A feature of the host that saved it, off there as it is absent here.
        None if value == 0 => Ok(()),
        found => Err(StateError::Invalid {
            what: "MSR",
            why: match found {
                Some((_, found)) => format!(
                    "this host keeps MSR {index:#x} at {found:#x}, and {value:#x} was saved"
                ),
                None => format!("this host lacks MSR {index:#x}, where {value:#x} was saved"),
            },
        }),
    }
}

/// What is left of `rest` when `done` of its first `tried` are: KVM stops at one that fails, and we go
/// on behind it.
fn behind<T>(rest: &[T], tried: usize, done: usize) -> &[T] {
    let failed = usize::from(done < tried);
    rest.get(done + failed..).unwrap_or_default()
}

fn table(entries: impl Iterator<Item = (u32, u64)>) -> Result<Msrs, StateError> {
    let entry = |(index, data)| kvm_msr_entry { index, data, ..kvm_msr_entry::default() };
    let entries: Vec<kvm_msr_entry> = entries.map(entry).collect();
    Msrs::from_entries(&entries).map_err(|_| StateError::Unsupported("so long a list of MSRs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_failed_is_skipped() {
        assert_eq!(behind(&[1, 2, 3, 4], 2, 1), [3, 4]);
        assert_eq!(behind(&[1, 2, 3, 4], 2, 2), [3, 4]);
        assert_eq!(behind(&[1, 2], 2, 1), [0; 0]);
    }
}
