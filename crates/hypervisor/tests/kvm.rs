//! The KVM backend on the real /dev/kvm.
//!
//! Without one, each test says that it was skipped; with `REQUIRE_KVM` in the environment it fails.

use std::io::Write;

use arch::{CpuImage, DescriptorTable};
use memory::{Backing, Bytes, GuestAddress, GuestMemoryRegion, Ram, loss::Watch};
use purlin_hypervisor::{
    CpuStart, CpuidPolicy, CreateError, Exit, Hypervisor, StateError, Topology, Vcpu, VmConfig,
    conformance, kvm::Kvm,
};

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

/// A vCPU's APIC id, as its local APIC has it.
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "part of tests")]
fn apic_id(vcpu: &mut dyn Vcpu) -> u8 {
    vcpu.save().unwrap().classes["LAPIC"].0[0x23]
}

#[test]
fn apic_ids_follow_the_topology_of_the_machine() {
    with_kvm("apic_ids_follow_the_topology_of_the_machine", |kvm| {
        let topology = Topology::new(1, 3, 2).unwrap();
        let config = VmConfig { topology: Some(topology), ..VmConfig::default() };
        let vm = kvm.create_vm(&config).unwrap();
        let mut fourth = vm.create_vcpu(3).unwrap();
        fourth.start(&CpuStart::WaitForStartup, &CpuidPolicy::host(topology)).unwrap();
        assert_eq!(apic_id(&mut *fourth), 4);
    });
}

#[test]
fn another_topology_than_the_machine_s_is_refused() {
    with_kvm("another_topology_than_the_machine_s_is_refused", |kvm| {
        let vm = kvm.create_vm(&VmConfig::default()).unwrap();
        let mut fourth = vm.create_vcpu(3).unwrap();
        let policy = CpuidPolicy::host(Topology::new(1, 3, 2).unwrap());
        let error = fourth.start(&CpuStart::WaitForStartup, &policy).unwrap_err();
        assert!(error.to_string().contains("APIC id 3 and its topology says 4"), "{error}");
    });
}

#[test]
fn a_machine_may_ask_for_the_frequency_that_the_host_has() {
    with_kvm("a_machine_may_ask_for_the_frequency_that_the_host_has", |kvm| {
        let vm = kvm.create_vm(&VmConfig::default()).unwrap();
        let tsc_khz = vm.create_vcpu(0).unwrap().save().unwrap().tsc_khz;
        let vm = kvm.create_vm(&VmConfig { tsc_khz, ..VmConfig::default() }).unwrap();
        assert_eq!(vm.create_vcpu(0).unwrap().save().unwrap().tsc_khz, tsc_khz);
    });
}

#[test]
fn state_without_meaning_is_an_error() {
    with_kvm("state_without_meaning_is_an_error", |kvm| {
        let vm = kvm.create_vm(&VmConfig::default()).unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        let mut state = vcpu.save().unwrap();
        state.classes.get_mut("SREGS").unwrap().0.fill(0xff);
        assert!(matches!(vcpu.restore(&state), Err(StateError::Host { .. })));
    });
}

#[test]
fn a_triple_fault_shows_where_the_guest_was() {
    with_kvm("a_triple_fault_shows_where_the_guest_was", |kvm| {
        let vm = kvm.create_vm(&VmConfig::default()).unwrap();
        let ram = Ram::new(&[(GuestAddress(0), 0x1_0000)], Backing::Anonymous).unwrap();
        ram.memory().write_slice(&[0x0f, 0x0b], GuestAddress(0x1000)).unwrap(); // ud2
        vm.map(ram.regions().next().unwrap()).unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        let image = CpuImage::protected_mode(0x1000, DescriptorTable::default());
        let policy = CpuidPolicy::host(Topology::flat(1).unwrap());
        vcpu.start(&CpuStart::Entry(Box::new(image)), &policy).unwrap();
        let Exit::Fault(fault) = vcpu.run().unwrap() else { panic!("expected a fault") };
        let text = fault.to_string();
        assert!(text.starts_with("the guest triple-faulted"), "{text}");
        assert!(text.contains("\n  rip "), "{text}");
    });
}

#[test]
fn a_vcpu_that_meets_memory_which_its_file_has_lost_goes_on() {
    let name = "a_vcpu_that_meets_memory_which_its_file_has_lost_goes_on";
    // mov ax,0x2000; mov ds,ax; mov al,[0]; out 0x80,al
    let code = [0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa0, 0x00, 0x00, 0xe6, 0x80];
    with_kvm(name, |kvm| {
        let vm = kvm.create_vm(&VmConfig::default()).unwrap();
        let ranges = [(GuestAddress(0), 0x1_0000), (GuestAddress(0x2_0000), 0x1_0000)];
        // A file of the owner's: nobody can cut our own memfd.
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.set_len(0x2_0000).unwrap();
        let ram = Ram::new(&ranges, Backing::Shared(file)).unwrap();
        for region in ram.regions() {
            vm.map(region).unwrap();
        }
        ram.memory().write_slice(&code, GuestAddress(0x7c00)).unwrap();
        ram.memory().write_obj(7_u8, ranges[1].0).unwrap();
        let watch = Watch::new(&ram, ranges[1].0).unwrap();
        watch.region().file_offset().unwrap().file().set_len(0x1_0000).unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        let image = CpuImage::real_mode(0, 0x7c00, 0x7c00);
        let policy = CpuidPolicy::host(Topology::flat(1).unwrap());
        vcpu.start(&CpuStart::Entry(Box::new(image)), &policy).unwrap();
        match vcpu.run().unwrap() {
            Exit::PioOut { port, data, .. } => assert_eq!((port, data), (0x80, &[0][..])),
            // Where KVM emulates the instruction it finds no memory, and asks for a device.
            Exit::MmioRead { addr, .. } => {
                assert_eq!(addr, ranges[1].0.0);
                return drop(writeln!(std::io::stderr(), "SKIPPED {name}: KVM emulates"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(watch.lost(), 0x1_0000);
    });
}

/// Whether this processor is QEMU's emulation, by what its hypervisor calls itself.
fn emulated() -> bool {
    std::arch::x86_64::__cpuid(0x4000_0000).ebx == u32::from_le_bytes(*b"TCGT")
}

#[test]
fn breakpoints_stop_before_their_instruction() {
    let name = "breakpoints_stop_before_their_instruction";
    if emulated() {
        // Its SVM loads the guest's debug registers and does not heed them.
        drop(writeln!(std::io::stderr(), "SKIPPED {name}: QEMU emulates this processor"));
        return;
    }
    with_kvm(name, |kvm| conformance::guest::breakpoints_stop_before_their_instruction(kvm));
}

#[test]
fn a_missing_device_node_is_told_with_what_to_do() {
    let error = Kvm::open_at("/nowhere/kvm").unwrap_err();
    assert!(matches!(error, CreateError::Absent { .. }));
    assert!(error.to_string().starts_with("/nowhere/kvm does not exist; load the module"));
}

#[test]
fn what_is_no_kvm_is_refused() {
    let error = Kvm::open_at("/dev/null").unwrap_err();
    assert_eq!(error.to_string(), "/dev/null cannot be opened");
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
    conformance => interrupt_lines_have_levels;
    conformance => messages_have_lines_of_their_own;
    conformance => a_doorbell_has_one_event;
    conformance => a_doorbell_can_be_given_up;
    conformance => a_machine_s_state_goes_into_another;
    conformance => a_vcpu_s_state_goes_into_another;
    conformance => state_that_is_cut_short_is_refused;
    conformance::guest => port_accesses_have_their_width;
    conformance::guest => strings_of_port_accesses_keep_their_width;
    conformance::guest => accesses_outside_ram_have_their_length;
    conformance::guest => a_triple_fault_is_told_with_registers;
    conformance::guest => a_guest_that_spins_is_interrupted;
    conformance::guest => a_single_step_stops_after_each_instruction;
    conformance::guest => a_halted_vcpu_wakes_by_its_interrupt;
    conformance::guest => an_asserted_line_interrupts_until_it_is_low;
    conformance::guest => a_message_interrupts;
    conformance::guest => doorbells_ring_without_an_exit;
    conformance::guest => doorbells_that_were_given_up_are_exits;
    conformance::guest => writes_to_read_only_memory_are_exits;
    conformance::guest => the_dirty_log_names_written_pages;
    conformance::guest => an_access_under_way_is_not_saved;
    conformance::guest => a_port_read_under_way_goes_on_in_another_machine;
}
