//! The KVM backend on the real /dev/kvm.
//!
//! Without one, each test says that it was skipped; with `REQUIRE_KVM` in the environment it fails.

use std::io::Write;

use purlin_hypervisor::{conformance, kvm::Kvm};

#[expect(clippy::disallowed_methods, reason = "the switch that turns skipped tests into failures")]
fn required() -> bool {
    std::env::var_os("REQUIRE_KVM").is_some()
}

/// Runs a body, or says why not.
#[expect(clippy::panic, reason = "a test that must not be skipped fails")]
fn with_kvm(name: &str, body: impl FnOnce(&Kvm)) {
    match Kvm::open() {
        Ok(kvm) => body(&kvm),
        Err(error) if required() => panic!("REQUIRE_KVM is set, and {error}"),
        // Past the harness, which hides what passing tests print.
        Err(error) => drop(writeln!(std::io::stderr(), "SKIPPED {name}: {error}")),
    }
}

macro_rules! bodies {
    ($($($module:ident)::+ => $name:ident;)*) => {$(
        #[test]
        fn $name() {
            with_kvm(stringify!($name), |kvm| $($module)::+::$name(kvm));
        }
    )*};
}

bodies! {
    conformance => regions_that_share_addresses_are_refused;
    conformance => a_region_comes_back_when_it_is_unmapped;
    conformance => unknown_slots_are_refused;
    conformance => each_index_makes_one_vcpu;
    conformance => vcpu_indices_have_a_limit;
    conformance => a_kick_before_the_first_run_interrupts_it;
    conformance => no_kick_is_lost;
    conformance => a_second_thread_may_not_run_a_vcpu;
    conformance => a_kick_of_a_vcpu_that_is_gone_does_nothing;
    conformance => interrupt_lines_have_events;
    conformance => messages_have_lines_of_their_own;
    conformance => a_doorbell_has_one_event;
    conformance => a_machine_s_state_goes_into_another;
    conformance => a_vcpu_s_state_goes_into_another;
    conformance => state_that_is_cut_short_is_refused;
    conformance::guest => port_accesses_have_their_width;
    conformance::guest => strings_of_port_accesses_keep_their_width;
    conformance::guest => accesses_outside_ram_have_their_length;
    conformance::guest => a_triple_fault_is_told_with_registers;
    conformance::guest => a_guest_that_spins_is_interrupted;
    conformance::guest => a_single_step_stops_after_each_instruction;
    conformance::guest => breakpoints_stop_before_their_instruction;
    conformance::guest => a_halted_vcpu_wakes_by_its_interrupt;
    conformance::guest => a_message_interrupts;
    conformance::guest => doorbells_ring_without_an_exit;
    conformance::guest => writes_to_read_only_memory_are_exits;
    conformance::guest => the_dirty_log_names_written_pages;
    conformance::guest => a_port_read_under_way_goes_on_in_another_machine;
}
