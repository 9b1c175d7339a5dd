//! Every kernel, every format, every protocol.

use crate::Guest;

fn reaches_user_space(guest: Guest) {
    let exit = guest.run();
    assert!(exit.output.contains("PURLIN-OK boot"), "{}{}", exit.output, exit.errors);
    assert_eq!(exit.status, 0, "{}", exit.errors);
}

#[test]
fn the_cloud_kernel_boots_as_bzimage() {
    if let Some(guest) = Guest::new("the_cloud_kernel_boots_as_bzimage", "boot") {
        reaches_user_space(guest);
    }
}

#[test]
fn the_cloud_kernel_boots_as_elf() {
    if let Some(guest) = Guest::new("the_cloud_kernel_boots_as_elf", "boot") {
        reaches_user_space(guest.elf().arguments(["--protocol", "linux"]));
    }
}

#[test]
fn the_cloud_kernel_boots_by_pvh() {
    if let Some(guest) = Guest::new("the_cloud_kernel_boots_by_pvh", "boot") {
        reaches_user_space(guest.elf().arguments(["--protocol", "pvh"]));
    }
}

#[test]
fn the_generic_kernel_boots_as_bzimage() {
    if let Some(guest) = Guest::new("the_generic_kernel_boots_as_bzimage", "boot") {
        reaches_user_space(guest.generic());
    }
}

#[test]
fn a_kernel_without_acpi_boots_by_the_mp_table() {
    let test = "a_kernel_without_acpi_boots_by_the_mp_table";
    if let Some(guest) = Guest::new(test, "cpus") {
        // The cloud kernel is built without CONFIG_X86_MPPARSE. Without ACPI nobody powers off.
        let guest = guest.generic().cmdline("acpi=off reboot=k purlin.end=reboot");
        let exit = guest.arguments(["--tables", "mp", "--cpus", "2"]).run();
        assert_eq!(crate::number(&exit.output, "PURLIN-CPUS "), 2, "{}", exit.output);
    }
}
