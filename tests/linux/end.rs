//! How guests end, told apart by the exit status.

use std::time::Duration;

use nix::sys::signal::Signal;
use vmm::status::ExitStatus;

use crate::{BOOT, Guest};

fn code(status: ExitStatus) -> i32 {
    status.code().into()
}

#[test]
fn power_off_ends_with_status_0() {
    let Some(guest) = Guest::new("power_off_ends_with_status_0", "poweroff") else { return };
    let exit = guest.run();
    assert!(exit.output.contains("PURLIN-OK poweroff"), "{}", exit.output);
    assert_eq!(exit.status, 0, "{}", exit.errors);
}

#[test]
fn a_reset_ends_with_its_own_status() {
    let Some(guest) = Guest::new("a_reset_ends_with_its_own_status", "reboot") else { return };
    let exit = guest.run();
    assert!(exit.output.contains("PURLIN-OK reboot"), "{}", exit.output);
    assert_eq!(exit.status, code(ExitStatus::Reset), "{}", exit.errors);
}

#[test]
fn a_reboot_really_boots_again() {
    let Some(guest) = Guest::new("a_reboot_really_boots_again", "reboot") else { return };
    let mut purlin = guest.arguments(["--on-reset", "reboot"]).start();
    purlin.expect("PURLIN-OK reboot", BOOT);
    purlin.expect_after("PURLIN-OK reboot", "PURLIN-BOOT", BOOT);
    purlin.signal(Signal::SIGKILL);
    purlin.wait(Duration::from_secs(10));
}

#[test]
fn a_kernel_panic_ends_with_its_own_status() {
    let test = "a_kernel_panic_ends_with_its_own_status";
    let Some(guest) = Guest::new(test, "panic") else { return };
    let exit = guest.run();
    assert!(exit.output.contains("Kernel panic - not syncing"), "{}", exit.output);
    assert_eq!(exit.status, code(ExitStatus::Panic), "{}", exit.errors);
}

#[test]
fn a_triple_fault_ends_with_its_own_status_and_says_so() {
    let test = "a_triple_fault_ends_with_its_own_status_and_says_so";
    let Some(guest) = Guest::new(test, "reboot") else { return };
    let exit = guest.cmdline("reboot=t").run();
    assert_eq!(exit.status, code(ExitStatus::Crash), "{}", exit.errors);
    assert!(exit.errors.contains("triple"), "{}", exit.errors);
}

#[test]
fn sigterm_presses_the_power_button() {
    let Some(guest) = Guest::new("sigterm_presses_the_power_button", "button") else { return };
    let mut purlin = guest.start();
    purlin.expect("PURLIN-READY button", BOOT);
    purlin.signal(Signal::SIGTERM);
    let exit = purlin.wait(BOOT);
    assert!(exit.output.contains("PURLIN-OK button"), "{}", exit.output);
    assert_eq!(exit.status, 0, "{}", exit.errors);
}
