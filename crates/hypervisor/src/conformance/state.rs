//! Saving and restoring without guest code.

use super::{machine, waiting};
use crate::{Blob, Hypervisor, StateError, VcpuState, VmState};

/// What one machine saves, another restores, and then saves the same.
pub fn a_machine_s_state_goes_into_another(hypervisor: &dyn Hypervisor) {
    let saved = machine(hypervisor).save().expect("a machine is saved");
    assert!(!saved.classes.is_empty(), "a machine has state");
    let other = machine(hypervisor);
    other.restore(&saved).expect("a machine is restored");
    let again = other.save().expect("a machine is saved again");
    assert_eq!(names(&saved), names(&again));
}

/// What one vCPU saves, another restores, and then saves the same registers.
pub fn a_vcpu_s_state_goes_into_another(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let saved = waiting(&*vm, 1).save().expect("a vCPU is saved");
    let other = machine(hypervisor);
    let mut vcpu = other.create_vcpu(1).expect("a vCPU is created");
    vcpu.restore(&saved).expect("a vCPU is restored");
    let again = vcpu.save().expect("a vCPU is saved again");
    let indices =
        |state: &VcpuState| state.msrs.iter().map(|(index, _)| *index).collect::<Vec<_>>();
    assert_eq!(names_of(&saved), names_of(&again));
    assert_eq!(indices(&saved), indices(&again));
    assert_eq!(saved.cpuid, again.cpuid);
    assert_eq!(saved.classes.get("REGS"), again.classes.get("REGS"));
}

/// Any part of saved state that is cut short is an error that names it.
pub fn state_that_is_cut_short_is_refused(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let mut vcpu = waiting(&*vm, 1);
    let saved = vcpu.save().expect("a vCPU is saved");
    for name in saved.classes.keys() {
        let mut cut = saved.clone();
        cut.classes.entry(name.clone()).and_modify(|Blob(bytes)| bytes.truncate(bytes.len() - 1));
        expect_size(name, vcpu.restore(&cut));
    }
    let saved = vm.save().expect("a machine is saved");
    for name in saved.classes.keys() {
        let mut cut = saved.clone();
        cut.classes.remove(name);
        expect_size(name, vm.restore(&cut));
    }
}

fn expect_size(name: &str, restored: Result<(), StateError>) {
    match restored {
        Err(StateError::Size { what, .. }) => assert_eq!(what, name),
        other => panic!("{name} is cut short, but got {other:?}"),
    }
}

fn names(state: &VmState) -> Vec<(&String, usize)> {
    state.classes.iter().map(|(name, blob)| (name, blob.0.len())).collect()
}

fn names_of(state: &VcpuState) -> Vec<(&String, usize)> {
    state.classes.iter().map(|(name, blob)| (name, blob.0.len())).collect()
}
