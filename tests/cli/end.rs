//! How runs end: the exit status, and what is said.

use harness::{Guest, guest};
use hypervisor::kvm::{HostKind, Kind};
use nix::sys::signal::Signal;

use crate::{LIMIT, Machine};

/// Runs a guest that says "hello" and ends by `code`: the exit status, and standard error.
fn ending(code: &[u8]) -> Option<(i32, String)> {
    let exit = Machine::new(&Guest::says("hello").then(code).then(guest::SPIN))?.run();
    assert_eq!(exit.output, "hello", "{}", exit.errors);
    Some((exit.status, exit.errors))
}

#[test]
fn power_off_is_status_0_and_silent() {
    if let Some(ending) = ending(guest::POWER_OFF) {
        assert_eq!(ending, (0, String::new()));
    }
}

#[test]
fn a_reset_is_status_6_however_it_is_asked_for() {
    for reset in [guest::RESET, guest::KEYBOARD_RESET] {
        if let Some(ending) = ending(reset) {
            assert_eq!(ending, (6, "purlin: the guest asked for a reset\n".into()));
        }
    }
}

#[test]
fn a_panic_is_status_8() {
    if let Some(ending) = ending(guest::PANIC) {
        assert_eq!(ending, (8, "purlin: the guest's kernel panicked\n".into()));
    }
}

#[test]
fn a_debug_exit_is_the_guests_own_odd_status() {
    if let Some(ending) = ending(guest::EXIT_5) {
        assert_eq!(ending, (11, String::new()));
    }
}

#[test]
fn a_triple_fault_is_status_10_and_explained() {
    if let Some((status, errors)) = ending(guest::TRIPLE_FAULT) {
        assert_eq!(status, 10, "{errors}");
        let told = "purlin: the guest crashed: the guest triple-faulted: it took an exception";
        assert!(errors.starts_with(told), "{errors}");
    }
}

#[test]
fn a_crash_is_told_with_reason_registers_bytes_and_instruction() {
    if let Some((status, errors)) = ending(guest::NOT_EMULATED) {
        assert_eq!(status, 10, "{errors}");
        for part in [
            "purlin: the guest crashed: KVM gave up on the guest: it had to emulate an instruction",
            "KVM_INTERNAL_ERROR_EMULATION",
            "rip 0000000000100",
            "64-bit)",
            "rdi 00000000d0000000",
            "cr3 ",
            "code 0f fc 07 eb fe",
            "at rip: paddb mm0,[rdi]",
        ] {
            assert!(errors.contains(part), "{part:?} is not in {errors}");
        }
    }
}

#[test]
fn a_crash_comes_with_advice_exactly_where_guest_kernels_are_emulated() {
    if let Some((_, errors)) = ending(guest::NOT_EMULATED) {
        let emulated = HostKind::read().kind == Kind::Pvm;
        assert_eq!(errors.contains("this host's KVM is KVM-PVM"), emulated, "{errors}");
    }
}

#[test]
fn a_guest_that_halts_for_good_waits_to_be_stopped() {
    let Some(machine) = Machine::new(&Guest::says("hello").then(guest::HALT)) else { return };
    let mut purlin = machine.start();
    purlin.expect("hello", LIMIT);
    purlin.signal(Signal::SIGQUIT);
    assert_eq!(purlin.wait(LIMIT).status, 14);
}

#[test]
fn a_reset_with_on_reset_reboot_boots_again_each_time() {
    let guest = Guest::says("boot.").then(guest::RESET).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let machine = machine.with(["--on-reset", "reboot"]);
    let mut purlin = machine.start();
    purlin.expect("boot.boot.boot.boot.", LIMIT);
    purlin.signal(Signal::SIGQUIT);
    let exit = purlin.wait(LIMIT);
    assert_eq!(exit.status, 14, "{}", exit.errors);
    assert!(exit.output.replace("boot.", "").len() < "boot.".len(), "{}", exit.output);
}

#[test]
fn every_boot_starts_with_fresh_memory() {
    // Prints what it finds at 8 MiB, where it then leaves a letter for the next boot to find.
    let leave = [
        0x8a, 0x04, 0x25, 0x00, 0x00, 0x80, 0x00, // mov al, [0x800000]
        0x04, b'a', // add al, 'a'
        0xee, // out dx, al
        0xc6, 0x04, 0x25, 0x00, 0x00, 0x80, 0x00, 0x01, // mov byte [0x800000], 1
    ];
    let guest = Guest::says("boot ").then(&leave).then(guest::RESET).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let machine = machine.with(["--on-reset", "reboot"]);
    let mut purlin = machine.start();
    purlin.expect("boot aboot aboot a", LIMIT);
    purlin.signal(Signal::SIGQUIT);
    purlin.wait(LIMIT);
}

#[test]
fn a_reboot_that_ends_otherwise_ends_the_run() {
    let Some(machine) = Machine::new(&Guest::says("hello").then(guest::PANIC)) else { return };
    assert_eq!(machine.with(["--on-reset", "reboot"]).run().status, 8);
}

#[test]
fn a_guest_that_answers_the_power_button_with_a_reset_does_not_boot_again() {
    let guest = Guest::says("boot.").then(guest::BUTTON).then(guest::RESET).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let machine = machine.with(["--on-reset", "reboot", "--grace", "600"]);
    let mut purlin = machine.start();
    purlin.expect("boot.", LIMIT);
    purlin.signal(Signal::SIGTERM);
    let exit = purlin.wait(LIMIT);
    assert_eq!((exit.status, exit.output.as_str()), (6, "boot."));
}
