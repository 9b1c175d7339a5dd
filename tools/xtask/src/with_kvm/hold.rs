//! Keeps the outer guest's KVM as it is when a machine runs.
//!
//! KVM switches static keys, which rewrite its own code, whenever the first machine is made, the last
//! one ends, or the number of vCPUs whose APIC is off leaves or reaches 0. QEMU's emulation of several
//! processors now and then executes such an instruction half rewritten: the outer kernel dies of an
//! int3. One machine with one vCPU that never runs keeps those keys where they are.

use std::{process::ExitCode, thread};

use hypervisor::{Hypervisor, VmConfig, kvm::Kvm};

use crate::error::{Context, Result};

/// Makes the machine, says so on standard output, and keeps it until the process is killed.
#[expect(clippy::print_stdout, reason = "the agent waits for the line")]
pub(crate) fn main() -> Result<ExitCode> {
    let refused = || "cannot keep a machine".to_owned();
    let kvm = Kvm::open().context(refused)?;
    let vm = kvm.create_vm(&VmConfig::default()).context(refused)?;
    let _vcpu = vm.create_vcpu(0).context(refused)?;
    println!("held");
    loop {
        thread::park();
    }
}
