//! Devices on PCI that interrupt by shared lines, because the guest does not use MSI-X.

use harness::Scratch;

use crate::{
    Guest,
    all::{ON_PCI, assert_all, eight, file},
    net::{TAP, has_network, run},
    value,
};

#[test]
fn a_stock_kernel_without_msi_drives_every_device_by_shared_lines() {
    let test = "a_stock_kernel_without_msi_drives_every_device_by_shared_lines";
    let Some(guest) = Guest::new(test, "all").filter(|_| has_network(test)) else { return };
    let scratch = Scratch::new(test);
    let disk = file(&scratch, "disk", 16).display().to_string();
    let flags = ["--bus", "pci", "--disk", &disk, "--memory-max", "1G"];
    let guest = guest.cmdline("pci=nomsi").arguments(flags);
    let output = run(eight(guest, &scratch), TAP);

    assert_all(&output, &scratch, ON_PCI);
    assert!(output.contains("PURLIN-OK pci"), "{output}");
    assert_eq!(value(&output, "PURLIN-INTERRUPTS "), Some("shared=4 messages=0"), "{output}");
}

#[test]
fn a_stock_kernel_without_acpi_and_msi_finds_the_lines_in_the_mp_table() {
    let test = "a_stock_kernel_without_acpi_and_msi_finds_the_lines_in_the_mp_table";
    let Some(guest) = Guest::new(test, "intx") else { return };
    let scratch = Scratch::new(test);
    let [disk, other] = ["disk", "other"].map(|name| file(&scratch, name, 1).display().to_string());
    let vsock = scratch.path("vsock").display().to_string();
    // Five functions: the first and the last share a line.
    let flags = ["--bus", "pci", "--tables", "mp", "--disk", &disk, "--rng", "/dev/urandom"];
    let more = ["--vsock", &vsock, "--balloon", "on", "--disk", &other];
    // As in boot.rs: the cloud kernel knows no MP table, and without ACPI nobody powers off.
    let guest = guest.generic().cmdline("acpi=off reboot=k purlin.end=reboot pci=nomsi");
    let output = guest.arguments(flags).arguments(more).run().output;

    assert_eq!(value(&output, "PURLIN-ACPI "), Some("off"), "{output}");
    assert_eq!(value(&output, "PURLIN-DATA "), Some("level"), "{output}");
    assert_eq!(value(&output, "PURLIN-RNG "), Some("64"), "{output}");
    assert_eq!(value(&output, "PURLIN-SHARED "), Some("1"), "{output}");
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
}
