//! What is no kernel, or does not fit.

use std::path::Path;

use harness::{Guest, guest};

use crate::Machine;

fn guest() -> Guest {
    Guest::says("hello").then(guest::POWER_OFF)
}

/// Runs a machine whose kernel holds `bytes`; what the one error says after the prefix.
fn refusal(bytes: &[u8], arguments: &[&str]) -> Option<String> {
    let machine = Machine::new(&guest())?.with(arguments);
    std::fs::write(&machine.kernel, bytes).unwrap();
    Some(refused(&machine))
}

fn refused(machine: &Machine) -> String {
    let exit = machine.run();
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    exit.errors.strip_prefix("purlin: error: ").unwrap().trim_end().to_owned()
}

/// A guest's ELF file with a field replaced.
fn with_field(offset: usize, value: u64) -> Vec<u8> {
    let mut elf = guest().elf();
    elf[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    elf
}

const E_ENTRY: usize = 24;
const E_PHOFF: usize = 32;
const P_OFFSET: usize = 64 + 8;
const P_PADDR: usize = 64 + 24;
const P_FILESZ: usize = 64 + 32;
const P_MEMSZ: usize = 64 + 40;

#[test]
fn what_is_no_kernel_is_told_with_what_one_is() {
    let Some(told) = refusal(b"#!/bin/sh\n", &[]) else { return };
    let (path, why) = told.split_once(" cannot be loaded: ").unwrap();
    assert!(path.starts_with("the kernel /"), "{told}");
    assert!(why.starts_with("not a kernel: starts with 23 21 2f"), "{told}");
    assert!(told.contains("expected a bzImage"), "{told}");
    let told = refusal(b"", &[]).unwrap();
    assert!(told.contains("kernel image is empty"), "{told}");
}

#[test]
fn an_elf_whose_headers_lie_is_refused_with_the_lie() {
    let cut = guest().elf().len() - 1;
    let lies: [(Vec<u8>, &[&str]); 11] = [
        (guest().elf()[..cut].to_vec(), &["segment 0", "ends beyond the file", "truncated"]),
        (guest().elf()[..70].to_vec(), &["program headers end at 0x78", "truncated"]),
        (guest().elf()[..20].to_vec(), &["ELF"]),
        (with_field(E_PHOFF, u64::MAX - 8), &["program headers", "truncated or its header lies"]),
        (with_field(P_OFFSET, u64::MAX), &["0xffffffffffffffff", "beyond the file"]),
        (with_field(P_FILESZ, u64::MAX), &["0xffffffffffffffff", "more than"]),
        (with_field(P_PADDR, 0x1000), &["at 0x1000", "0x100000"]),
        (with_field(P_PADDR, 0x4000_0000), &["0x40000000", "beyond RAM (0x1000000)", "MiB"]),
        (
            with_field(P_MEMSZ, 0x4000_0000),
            &["0x40000000 bytes", "beyond RAM", "at least 1025 MiB"],
        ),
        (with_field(P_PADDR, u64::MAX - 0xfff), &["0xfffffffffffff000"]),
        (with_field(E_ENTRY, 0x4000_0000), &["0x40000000", "in no loaded segment"]),
    ];
    for (elf, parts) in lies {
        let Some(told) = refusal(&elf, &[]) else { return };
        for part in parts {
            assert!(told.contains(part), "{part:?} is not in {told:?}");
        }
    }
}

#[test]
fn overlapping_segments_are_refused_with_the_address() {
    let elf = guest().elf_at(&[guest::ENTRY, guest::ENTRY + 4]);
    let Some(told) = refusal(&elf, &[]) else { return };
    assert!(told.contains("segments 0 and 1 overlap at 0x100004"), "{told}");
}

#[test]
fn a_kernel_for_another_processor_is_refused() {
    let mut elf = guest().elf();
    elf[18] = 183; // AArch64
    let Some(told) = refusal(&elf, &[]) else { return };
    assert!(told.contains("machine 0xb7") && told.contains("0x3e (x86-64)"), "{told}");
}

#[test]
fn a_protocol_that_the_kernel_does_not_speak_is_refused() {
    let Some(told) = refusal(&guest().elf(), &["--protocol", "pvh"]) else { return };
    assert!(told.contains("the ELF has no PVH note"), "{told}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let Some(machine) = Machine::new(&guest()) else { return };
    let directory = machine.scratch.path("").display().to_string();
    for (flag, what) in [("--kernel", "kernel"), ("--initrd", "initrd")] {
        let machine = Machine::new(&guest()).unwrap().with([flag, "/nonexistent/file"]);
        let machine = only_last_kernel(machine, flag, Path::new("/nonexistent/file"));
        let told = refused(&machine);
        let expected = format!("the {what} /nonexistent/file cannot be opened: No such file");
        assert!(told.starts_with(&expected), "{told}");
        let machine = Machine::new(&guest()).unwrap().with([flag, &directory]);
        let machine = only_last_kernel(machine, flag, Path::new(&directory));
        let told = refused(&machine);
        assert!(told.contains("directory") && told.contains(what), "{told}");
    }
}

/// A machine has one kernel: where the test gives another, the usual one is left out.
fn only_last_kernel(mut machine: Machine, flag: &str, path: &Path) -> Machine {
    if flag == "--kernel" {
        machine.kernel = path.to_owned();
        machine.arguments.truncate(machine.arguments.len() - 2);
    }
    machine
}

#[test]
fn an_initrd_that_does_not_fit_is_refused_with_the_room() {
    let Some(machine) = Machine::new(&guest()) else { return };
    let initrd = machine.scratch.file("initrd", &vec![0; 16 << 20]);
    let machine = machine.with(["--initrd".into(), initrd]);
    let told = refused(&machine);
    assert!(
        told.starts_with("the initrd /") && told.contains("/initrd cannot be loaded: "),
        "{told}"
    );
    assert!(told.contains("the initrd of 16777216 bytes does not fit: "), "{told}");
}

#[test]
fn a_command_line_that_is_too_long_or_unprintable_is_refused() {
    let long = "x".repeat(5000);
    let Some(told) = refusal(&guest().elf(), &["--cmdline", &long]) else { return };
    assert!(told.contains("(5000 from the user") && told.contains("at most"), "{told}");
    let told = refusal(&guest().elf(), &["--cmdline", "a\u{1}b"]).unwrap();
    assert!(told.contains("'\\u{1}' at byte 1"), "{told}");
}
