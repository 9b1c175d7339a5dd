//! From 64 MiB to more than 4 GiB.

use crate::{Guest, number};

#[test]
fn sixty_four_mebibytes_are_enough() {
    let Some(guest) = Guest::new("sixty_four_mebibytes_are_enough", "mem") else { return };
    // The cloud kernel unpacks itself in place: its bzImage needs more room than it later uses.
    let exit = guest.kernel("cloud/vmlinux").arguments(["--memory", "64M"]).run();
    let kibibytes = number(&exit.output, "PURLIN-MEM ");
    assert!((10_000..65_536).contains(&kibibytes), "{kibibytes} KiB");
}

#[test]
fn five_gibibytes_continue_above_the_hole() {
    let Some(guest) = Guest::new("five_gibibytes_continue_above_the_hole", "mem") else { return };
    let exit = guest.arguments(["--memory", "5G"]).run();
    let kibibytes = number(&exit.output, "PURLIN-MEM ");
    assert!(kibibytes > 4_700_000, "{kibibytes} KiB");
}

#[test]
fn shared_prefaulted_memory_in_transparent_huge_pages_boots() {
    let test = "shared_prefaulted_memory_in_transparent_huge_pages_boots";
    let Some(guest) = Guest::new(test, "boot") else { return };
    let memory = "256M,backing=shared,pages=transparent,prefault=true";
    let exit = guest.arguments(["--memory", memory]).run();
    assert!(exit.output.contains("PURLIN-OK boot"), "{}{}", exit.output, exit.errors);
}
