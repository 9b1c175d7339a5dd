//! RAM, of every size and kind.

use std::fs;

use harness::{Exit, Guest, guest, skipped};
use nix::unistd::Uid;

use crate::{LIMIT, Machine, test_name};

const MIB: u32 = 1 << 20;

/// A guest that prints "held" if RAM holds what it writes at each of `addresses`.
fn uses(addresses: &[u32]) -> Guest {
    let guest = addresses.iter().fold(Guest::default(), |guest, &address| guest.uses(address));
    guest.prints(guest::COM1, "held").then(guest::POWER_OFF).then(guest::SPIN)
}

/// Runs `guest` with `--memory LIST`.
fn run(guest: &Guest, list: &str) -> Option<Exit> {
    Some(Machine::new(guest)?.with(["--memory", list]).run())
}

fn held(exit: &Exit) {
    assert_eq!((exit.status, exit.output.as_str()), (0, "held"), "{}", exit.errors);
}

#[test]
fn ram_ends_where_it_should() {
    for (list, end) in [("16M", 16 * MIB), ("33M", 33 * MIB), ("2M", 2 * MIB)] {
        let Some(exit) = run(&uses(&[end - 8]), list) else { return };
        held(&exit);
        let exit = run(&uses(&[end]), list).unwrap();
        assert_eq!(exit.status, i32::from(guest::LOST) * 2 + 1, "there is RAM at {end:#x}");
    }
}

#[test]
fn five_gibibytes_go_on_above_the_hole() {
    let above = Guest::default().uses(0xbfff_f000).uses_high(5);
    let guest = above.prints(guest::COM1, "held").then(guest::POWER_OFF).then(guest::SPIN);
    if let Some(exit) = run(&guest, "5G") {
        held(&exit);
        // 5 GiB leave 2 GiB for above 4 GiB: there is nothing from 6 GiB on.
        let beyond = Guest::default().uses_high(6).then(guest::POWER_OFF);
        let exit = run(&beyond, "5G").unwrap();
        assert_eq!(exit.status, i32::from(guest::LOST) * 2 + 1, "{}", exit.errors);
    }
}

#[test]
fn every_kind_of_memory_holds_what_is_written() {
    for list in [
        "32M,backing=shared",
        "32M,prefault=on",
        "32M,pages=transparent",
        "32M,backing=shared,pages=transparent,prefault=on",
    ] {
        let Some(exit) = run(&uses(&[8 * MIB, 32 * MIB - 8]), list) else { return };
        held(&exit);
    }
}

#[test]
fn a_file_holds_what_the_guest_wrote() {
    let Some(machine) = Machine::new(&uses(&[8 * MIB])) else { return };
    let file = machine.scratch.file("ram", &[0xff; 12345]);
    let list = format!("16M,backing=file:{}", file.display());
    held(&machine.with(["--memory", &list]).run_in_place(&file));
}

impl Machine {
    /// Runs the machine, and looks at its RAM in `file` afterwards.
    fn run_in_place(&self, file: &std::path::Path) -> Exit {
        let exit = self.start().wait(LIMIT);
        let ram = fs::read(file).unwrap();
        assert_eq!(ram.len(), 16 << 20);
        let pattern = 0x8877_6655_4433_2211_u64.to_le_bytes();
        assert_eq!(ram.get(8 << 20..(8 << 20) + 8), Some(&pattern[..]));
        exit
    }
}

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages of 2 MiB that this test added to those that the host reserves.
struct Reservation(u64);

impl Reservation {
    /// Reserves `more`; `None` if the host does not give them.
    fn new(more: u64) -> Option<Self> {
        let before = number(RESERVED)?;
        let reservation = Self(before);
        fs::write(RESERVED, (before + more).to_string()).ok()?;
        (number(RESERVED)? >= before + more).then_some(reservation)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let _ = fs::write(RESERVED, self.0.to_string());
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// One test, because another would find the pages that this one reserves.
#[test]
fn huge_pages_are_used_where_reserved_and_asked_for_in_vain_otherwise() {
    let guest = uses(&[8 * MIB, 32 * MIB - 8]);
    let test = test_name();
    if number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") != Some(0) {
        return skipped(&test, "the host has huge pages that are free, or none of 2 MiB");
    }
    let Some(exit) = run(&guest, "32M,pages=2M") else { return };
    assert_eq!(exit.status, 4, "{}", exit.errors);
    let told = "purlin: error: the host cannot map 33554432 bytes of RAM at 0x0; \
                ask for less, or for huge pages only where enough are reserved: ";
    assert!(exit.errors.starts_with(told), "{}", exit.errors);
    assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    if !Uid::effective().is_root() {
        return skipped(&test, "only root can reserve huge pages");
    }
    let Some(_reservation) = Reservation::new(16) else {
        return skipped(&test, "the host has no memory for huge pages");
    };
    held(&run(&guest, "32M,pages=2M").unwrap());
    held(&run(&guest, "32M,pages=2M,backing=shared,prefault=on").unwrap());
}
