//! Disks, as the command line gives them.

use harness::{Guest, guest};

use crate::{LIMIT, Machine};

fn refused(disk: &str) -> Option<String> {
    let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF))?;
    let exit = machine.with(["--disk", disk]).run();
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    Some(exit.errors)
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let Some(error) = refused("/no/such.img") else { return };
    assert!(error.contains("cannot open disk image \"/no/such.img\" for reading and"), "{error}");
}

#[test]
fn an_image_of_half_a_sector_is_refused_with_its_size() {
    let scratch = harness::Scratch::new("half-a-sector");
    let image = scratch.file("a.img", &[0; 700]);
    let Some(error) = refused(image.to_str().unwrap()) else { return };
    assert!(error.contains("has 700 bytes; it must be a positive multiple of 512"), "{error}");
}

#[test]
fn an_identity_that_cannot_be_is_refused() {
    let scratch = harness::Scratch::new("identity");
    let image = scratch.file("a.img", &[0; 512]);
    let disk = format!("{},id=longer-than-twenty-letters", image.display());
    let Some(error) = refused(&disk) else { return };
    assert!(error.contains("`longer-than-twenty-letters` cannot identify a disk"), "{error}");
}

#[test]
fn a_disk_that_a_port_would_empty_is_refused() {
    let scratch = harness::Scratch::new("emptied");
    let image = scratch.file("a.img", &[7; 512]);
    let Some(machine) = Machine::new(&Guest::says("hello").then(guest::POWER_OFF)) else { return };
    let (disk, serial) = (image.to_str().unwrap(), format!("file:{}", image.display()));
    let exit = machine.with(["--disk", disk, "--serial", &serial]).run();
    assert_eq!(exit.status, 2, "{}", exit.errors);
    assert_eq!(std::fs::read(&image).unwrap(), [7; 512]);
}

#[test]
fn an_image_is_locked_while_a_guest_has_it() {
    let scratch = harness::Scratch::new("locked");
    let image = scratch.file("a.img", &[0; 512]);
    let Some(first) = Machine::new(&Guest::says("hello").then(guest::SPIN)) else { return };
    let first = first.with(["--disk", image.to_str().unwrap()]);
    let mut running = first.start();
    running.expect("hello", LIMIT);
    let Some(error) = refused(image.to_str().unwrap()) else { return };
    assert!(error.contains("is in use and cannot be locked"), "{error}");
}
