//! Files as persistent memory.

use std::{fs, fs::File, path::Path};

use harness::{Exit, Guest, Scratch, guest};

use crate::{LIMIT, Machine};

const MIB: usize = 1 << 20;
/// What guests write.
const PATTERN: [u8; 8] = 0x8877_6655_4433_2211_u64.to_le_bytes();

/// A guest that uses memory at 4 GiB, which is where the first file is.
fn user() -> Guest {
    Guest::default().uses_high(4).prints(guest::COM1, "held").then(guest::POWER_OFF)
}

fn start_of(file: &Path) -> [u8; 8] {
    fs::read(file).unwrap()[..8].try_into().unwrap()
}

fn refused(pmem: &str) -> Option<String> {
    let exit = Machine::new(&user())?.with(["--pmem", pmem]).run();
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    Some(exit.errors)
}

fn held(exit: &Exit) {
    assert_eq!((exit.status, exit.output.as_str()), (0, "held"), "{}", exit.errors);
}

#[test]
fn what_the_guest_writes_is_in_the_file() {
    let Some(machine) = Machine::new(&user()) else { return };
    let file = machine.scratch.file("a.img", &vec![0; 2 * MIB]);
    let machine = machine.with(["--pmem", file.to_str().unwrap()]);
    held(&machine.run());
    assert_eq!(start_of(&file), PATTERN);
}

#[test]
fn the_second_file_comes_after_the_first() {
    let guest = Guest::default().uses_high(6).prints(guest::COM1, "held").then(guest::POWER_OFF);
    let Some(machine) = Machine::new(&guest) else { return };
    let first = machine.scratch.file("a.img", &vec![0; 2 * MIB]);
    let second = machine.scratch.file("b.img", &vec![0; 4 * MIB]);
    let toml = format!("kernel = 'kernel'\npmem = ['a.img', '{}']", second.display());
    let toml = machine.scratch.file("vm.toml", toml.as_bytes());
    held(&harness::Purlin::start(["run", toml.to_str().unwrap()]).wait(LIMIT));
    assert_eq!((start_of(&first), start_of(&second)), ([0; 8], PATTERN));
}

#[test]
fn a_file_that_is_only_read_stays_as_it_is() {
    let Some(machine) = Machine::new(&user()) else { return };
    let file = machine.scratch.file("a.img", &vec![7; 2 * MIB]);
    let mut readable = fs::metadata(&file).unwrap().permissions();
    readable.set_readonly(true);
    fs::set_permissions(&file, readable).unwrap();
    let machine = machine.with(["--pmem", &format!("{},read-only=on", file.display())]);
    let exit = machine.run();
    // What the guest wrote it did not find again.
    let lost = i32::from(guest::LOST) * 2 + 1;
    assert_eq!((exit.status, exit.output.as_str()), (lost, ""), "{}", exit.errors);
    assert_eq!(start_of(&file), [7; 8]);
}

#[test]
fn a_file_that_is_not_there_or_of_an_odd_size_is_refused_by_name() {
    let Some(error) = refused("/no/such.img") else { return };
    assert!(error.contains("\"/no/such.img\""), "{error}");
    let scratch = Scratch::new("odd-pmem");
    let file = scratch.file("a.img", &vec![0; MIB]);
    let error = refused(file.to_str().unwrap()).unwrap();
    assert!(error.contains("has 1048576 bytes; it must be a multiple of 2 MiB"), "{error}");
    assert!(error.contains("zeroes up to 2097152 bytes"), "{error}");
}

#[test]
fn a_key_that_persistent_memory_has_not_is_refused_with_the_nearest() {
    let Some(machine) = Machine::new(&user()) else { return };
    let exit = machine.with(["--pmem", "a.img,read_only=on"]).run();
    assert_eq!(exit.status, 2);
    assert!(exit.errors.contains("did you mean `read-only`?"), "{}", exit.errors);
}

#[test]
fn a_file_is_locked_while_a_guest_has_it() {
    let Some(first) = Machine::new(&Guest::says("hello").then(guest::SPIN)) else { return };
    let file = first.scratch.file("a.img", &vec![0; 2 * MIB]);
    let first = first.with(["--pmem", file.to_str().unwrap()]);
    let mut running = first.start();
    running.expect("hello", LIMIT);
    let Some(error) = refused(file.to_str().unwrap()) else { return };
    assert!(error.contains("is in use and cannot be locked"), "{error}");
}

#[test]
fn a_guest_goes_on_when_what_it_uses_was_cut_from_its_file() {
    let waits = Guest::says("ready").then(guest::ECHO).uses_high(4).prints(guest::COM1, "held");
    let Some(machine) = Machine::new(&waits.then(guest::POWER_OFF)) else { return };
    let file = machine.scratch.file("a.img", &vec![0; 2 * MIB]);
    let machine = machine.with(["--pmem", file.to_str().unwrap()]);
    let mut running = machine.start();
    running.expect("ready", LIMIT);
    File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    running.expect_error("persistent memory has lost 2097152 bytes", LIMIT);
    running.type_in("q");
    let exit = running.wait(LIMIT);
    assert_eq!((exit.status, exit.output.as_str()), (0, "readyqheld"), "{}", exit.errors);
    assert_eq!(fs::metadata(&file).unwrap().len(), 0);
}
