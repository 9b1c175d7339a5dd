//! Making, running and kicking vCPUs.

use std::{sync::mpsc, thread};

use super::{expect_interrupted, machine, waiting, within_limit};
use crate::{CreateError, Hypervisor, RunError};

/// A second vCPU of one index is refused.
pub fn each_index_makes_one_vcpu(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let _first = vm.create_vcpu(1).expect("a vCPU is created");
    match vm.create_vcpu(1) {
        Err(CreateError::VcpuTaken { index: 1 }) => {}
        Err(other) => panic!("expected that index 1 is taken, got {other:?}"),
        Ok(_) => panic!("index 1 made two vCPUs"),
    }
}

/// An index beyond what the host allows is refused, with what it allows.
pub fn vcpu_indices_have_a_limit(hypervisor: &dyn Hypervisor) {
    match machine(hypervisor).create_vcpu(u32::MAX).map(drop) {
        Err(CreateError::VcpuIndex { index: u32::MAX, last }) => assert!(last >= 63),
        other => panic!("expected an index error, got {other:?}"),
    }
}

/// A kick counts even while no thread runs the vCPU; once.
pub fn a_kick_before_the_first_run_interrupts_it(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let mut vcpu = waiting(&*vm, 1);
    let kicker = vcpu.kicker();
    within_limit("a kick before the first run", move || {
        kicker.kick();
        kicker.kick();
        expect_interrupted(vcpu.run());
        kicker.clone().kick();
        expect_interrupted(vcpu.run());
    });
}

/// Wherever the vCPU's thread is when it is kicked, a run returns.
pub fn no_kick_is_lost(hypervisor: &dyn Hypervisor) {
    const ROUNDS: usize = 300;
    let vm = machine(hypervisor);
    let mut vcpu = waiting(&*vm, 1);
    let kicker = vcpu.kicker();
    let (ready, rounds) = mpsc::channel();
    let kicks = thread::spawn(move || {
        for round in rounds {
            // Now before the run, now in it, now on the way into it.
            (0..round % 7 * 40).for_each(|_| std::hint::spin_loop());
            kicker.kick();
        }
    });
    within_limit("kicks from another thread", move || {
        for round in 0..ROUNDS {
            ready.send(round).expect("the kicking thread lives");
            expect_interrupted(vcpu.run());
        }
    });
    kicks.join().expect("the kicking thread ends");
}

/// A vCPU belongs to the thread that ran it first.
pub fn a_second_thread_may_not_run_a_vcpu(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let mut vcpu = waiting(&*vm, 1);
    let kicker = vcpu.kicker();
    kicker.kick();
    let mut vcpu = within_limit("the first thread's run", move || {
        expect_interrupted(vcpu.run());
        vcpu
    });
    kicker.kick();
    match vcpu.run() {
        Err(RunError::Thread { index: 1 }) => {}
        other => panic!("a second thread's run must be an error, got {other:?}"),
    }
}

/// Kickers may outlive their vCPU, its thread and its machine.
pub fn a_kick_of_a_vcpu_that_is_gone_does_nothing(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let mut vcpu = waiting(&*vm, 1);
    let kicker = vcpu.kicker();
    kicker.kick();
    within_limit("the last run", move || expect_interrupted(vcpu.run()));
    drop(vm);
    kicker.kick();
}
