//! From little to more than 4 GiB.

use crate::{Guest, number};

/// The least that the stock kernel itself asks for is 66 MiB; memtest86+ runs in 64.
#[test]
fn ninety_six_mebibytes_are_enough() {
    let Some(guest) = Guest::new("ninety_six_mebibytes_are_enough", "mem") else { return };
    let exit = guest.elf().arguments(["--memory", "96M"]).run();
    let kibibytes = number(&exit.output, "PURLIN-MEM ");
    assert!((10_000..98_304).contains(&kibibytes), "{kibibytes} KiB");
}

#[test]
fn too_little_memory_for_the_kernel_is_refused_with_what_is_enough() {
    let test = "too_little_memory_for_the_kernel_is_refused_with_what_is_enough";
    let Some(guest) = Guest::new(test, "mem") else { return };
    let exit = guest.arguments(["--memory", "64M"]).run();
    assert_eq!(exit.status, 2);
    assert!(exit.errors.contains("MiB"), "{}", exit.errors);
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
