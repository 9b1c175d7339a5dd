//! What every backend must do: bodies of tests, which panic with what was expected.
//!
//! [`all`] needs no guest code, and [`guest::all`] a backend that runs real-mode code. In both, a
//! vCPU that was started by [`CpuStart::WaitForStartup`] must wait until it is kicked.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "bodies of tests"
)]

pub mod guest;
mod memory_map;
mod state;
mod vcpus;
mod wires;

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use arch::{CpuStart, CpuidPolicy, Topology};
use memory::{Backing, GuestAddress, Ram, Region};

use crate::{Exit, Hypervisor, RunError, Vcpu, Vm, VmConfig};

pub use memory_map::{
    a_region_comes_back_when_it_is_unmapped, regions_that_share_addresses_are_refused,
    unknown_slots_are_refused,
};
pub use state::{
    a_machine_s_state_goes_into_another, a_vcpu_s_state_goes_into_another,
    state_that_is_cut_short_is_refused,
};
pub use vcpus::{
    a_kick_before_the_first_run_interrupts_it, a_kick_of_a_vcpu_that_is_gone_does_nothing,
    a_second_thread_may_not_run_a_vcpu, each_index_makes_one_vcpu, no_kick_is_lost,
    vcpu_indices_have_a_limit,
};
pub use wires::{
    a_doorbell_can_be_given_up, a_doorbell_has_one_event, interrupt_lines_have_events,
    interrupt_lines_have_levels, messages_have_lines_of_their_own,
};

/// Everything that needs no guest code.
pub fn all(hypervisor: &dyn Hypervisor) {
    regions_that_share_addresses_are_refused(hypervisor);
    a_region_comes_back_when_it_is_unmapped(hypervisor);
    unknown_slots_are_refused(hypervisor);
    each_index_makes_one_vcpu(hypervisor);
    vcpu_indices_have_a_limit(hypervisor);
    a_kick_before_the_first_run_interrupts_it(hypervisor);
    no_kick_is_lost(hypervisor);
    a_second_thread_may_not_run_a_vcpu(hypervisor);
    a_kick_of_a_vcpu_that_is_gone_does_nothing(hypervisor);
    interrupt_lines_have_events(hypervisor);
    interrupt_lines_have_levels(hypervisor);
    messages_have_lines_of_their_own(hypervisor);
    a_doorbell_has_one_event(hypervisor);
    a_doorbell_can_be_given_up(hypervisor);
    a_machine_s_state_goes_into_another(hypervisor);
    a_vcpu_s_state_goes_into_another(hypervisor);
    state_that_is_cut_short_is_refused(hypervisor);
}

/// How long anything here may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(30);

fn machine(hypervisor: &dyn Hypervisor) -> Arc<dyn Vm> {
    hypervisor.create_vm(&VmConfig::default()).expect("a machine is created")
}

fn ram(start: u64, len: usize) -> Arc<Region> {
    let ram = Ram::new(&[(GuestAddress(start), len)], Backing::Anonymous).expect("RAM is made");
    ram.regions().next().expect("RAM has a region")
}

/// A vCPU that waits, as processors do that nobody starts.
fn waiting(vm: &dyn Vm, index: u32) -> Box<dyn Vcpu> {
    let mut vcpu = vm.create_vcpu(index).expect("a vCPU is created");
    vcpu.start(&CpuStart::WaitForStartup, &policy()).expect("a vCPU is started");
    vcpu
}

fn policy() -> CpuidPolicy {
    CpuidPolicy::host(Topology::flat(2).expect("a machine has two vCPUs"))
}

/// Runs `body` on a thread of its own, and panics if that takes too long.
fn within_limit<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(body()));
    match receiver.recv_timeout(LIMIT) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: not done after {LIMIT:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => panic!("{what}: nothing was sent"),
        },
    }
}

fn expect_interrupted(run: Result<Exit<'_>, RunError>) {
    match run {
        Ok(Exit::Interrupted) => {}
        other => panic!("expected Interrupted, got {other:?}"),
    }
}
