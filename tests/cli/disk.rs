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
fn a_directory_is_no_image() {
    let scratch = harness::Scratch::new("directory");
    let dir = scratch.path("");
    let Some(error) = refused(dir.to_str().unwrap()) else { return };
    assert!(error.contains("is neither a regular file nor a block device"), "{error}");
}

#[test]
fn a_qcow2_image_is_called_that_whatever_its_size() {
    let scratch = harness::Scratch::new("odd-qcow2");
    let mut bytes = qcow2("", &[]);
    bytes.truncate(bytes.len() - 8); // as `qemu-img create` leaves it
    let image = scratch.file("a.img", &bytes);
    let image = image.display();
    let Some(error) = refused(&image.to_string()) else { return };
    assert!(error.contains("say format=qcow2 if it is one"), "{error}");
    let Some(error) = refused(&format!("{image},format=raw")) else { return };
    assert!(error.contains("begins as a qcow2 image does and has"), "{error}");
}

#[test]
fn an_image_that_can_only_be_read_needs_to_be_said_so() {
    // What is being run cannot be written, not even by root.
    let own = std::env::current_exe().unwrap();
    let Some(error) = refused(own.to_str().unwrap()) else { return };
    assert!(error.contains("add read-only=on, or make it writable"), "{error}");
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

/// A qcow2 image of a mebibyte with `changes`, behind which `behind` is, if anything.
fn qcow2(behind: &str, changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = harness::qcow2(1 << 20, behind);
    for (at, bytes) in changes {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

#[test]
fn an_image_that_begins_as_qcow2_is_not_guessed_at() {
    let scratch = harness::Scratch::new("probed");
    let image = scratch.file("a.img", &qcow2("", &[]));
    let image = image.to_str().unwrap();
    let Some(error) = refused(image) else { return };
    assert!(error.contains("say format=qcow2 if it is one, or format=raw"), "{error}");
    for format in ["raw", "qcow2"] {
        let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF)).unwrap();
        let exit = machine.with(["--disk", &format!("{image},format={format}")]).run();
        assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
    }
}

#[test]
fn an_image_that_is_no_usable_qcow2_is_refused_with_the_reason() {
    let scratch = harness::Scratch::new("no-qcow2");
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("raw", vec![0; 4096], "does not begin as a qcow2 image does"),
        ("encrypted", qcow2("", &[(32, &[0, 0, 0, 2])]), "it is encrypted"),
        (
            "dirty",
            qcow2("", &[(79, &[1])]),
            "not closed properly; `qemu-img check -r all` repairs it",
        ),
        ("tables", qcow2("", &[(40, &[0x7f])]), "the first-level table is 0x7f"),
        ("giant", qcow2("", &[(24, &[0xff])]), "the number of first-level entries"),
    ];
    for (name, content, expected) in cases {
        let image = scratch.file(name, &content);
        let disk = format!("{},format=qcow2", image.display());
        let Some(error) = refused(&disk) else { return };
        assert!(error.contains(expected) && error.contains(name), "{error} has no {expected}");
    }
}

#[test]
fn what_is_behind_an_image_must_be_allowed_and_lead_to_an_end() {
    let scratch = harness::Scratch::new("behind");
    scratch.file("base", &qcow2("", &[]));
    let front = scratch.file("front", &qcow2("base", &[]));
    let again = scratch.file("again", &qcow2("again", &[]));
    let dir = front.parent().unwrap();
    let (front, again) = (front.display(), again.display());
    let cases = [
        (format!("{front},format=qcow2"), "no backing image was allowed; allow it with backing="),
        (format!("{front},format=qcow2,backing=/no/such"), "\"/no/such\", which cannot be found"),
        (format!("{front},format=qcow2,backing=/usr"), "is not \"/usr\" and not in it"),
        (format!("{again},format=qcow2,backing=on"), "the chain of images is a loop"),
        (format!("{front},backing=on"), "backing=, which goes with format=qcow2 only"),
    ];
    for (disk, expected) in cases {
        let Some(error) = refused(&disk) else { return };
        assert!(error.contains(expected), "{error} has no {expected}");
    }
    for allowed in ["on", dir.to_str().unwrap(), dir.join("base").to_str().unwrap()] {
        let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF)).unwrap();
        let disk = format!("{front},format=qcow2,backing={allowed}");
        let exit = machine.with(["--disk", &disk]).run();
        assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
    }
}

#[test]
fn what_a_disk_cannot_have_is_refused_with_what_is_right() {
    let scratch = harness::Scratch::new("cannot");
    let image = scratch.file("a.img", &[0; 512]);
    let cases = [
        ("queues=33", "it must be 1 to 32"),
        ("ops-per-sec=0", "a rate of 0"),
        ("engine=uring", "io_uring"),
        ("format=vmdk", "those known are raw, qcow2"),
    ];
    for (list, expected) in cases {
        let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF));
        let Some(machine) = machine else { return };
        let disk = format!("{},{list}", image.display());
        let exit = machine.with(["--disk", &disk]).run();
        assert_eq!(exit.status, 2, "{}", exit.errors);
        assert!(exit.errors.contains(expected), "{} has no {expected}", exit.errors);
    }
}

#[test]
fn a_read_only_image_is_a_disk_for_reading_only() {
    let scratch = harness::Scratch::new("read-only");
    let image = scratch.file("a.img", &[0; 512]);
    let mut permissions = std::fs::metadata(&image).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&image, permissions).unwrap();
    let disk = format!("{},read-only=on", image.display());
    let Some(machine) = Machine::new(&Guest::says("hello").then(guest::POWER_OFF)) else { return };
    let exit = machine.with(["--disk", &disk]).run();
    assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
    // Root may write it all the same.
    if std::fs::OpenOptions::new().write(true).open(&image).is_err() {
        let Some(error) = refused(image.to_str().unwrap()) else { return };
        assert!(error.contains("for reading and writing"), "{error}");
    }
}

#[test]
fn a_disk_with_everything_is_attached() {
    let scratch = harness::Scratch::new("everything");
    let image = scratch.file("a.img", &[0; 4096]);
    let disk = format!(
        "{},format=raw,engine=io_uring,direct=on,queues=4,cache=writethrough,bytes-per-sec=1M,bytes-burst=1M,\
         ops-per-sec=100,ops-burst=10,id=all",
        image.display()
    );
    for bus in ["mmio", "pci"] {
        let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF));
        let Some(machine) = machine else { return };
        let exit = machine.with(["--bus", bus, "--disk", &disk]).run();
        assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
    }
}

#[test]
fn an_image_is_free_as_soon_as_its_vmm_has_ended() {
    let scratch = harness::Scratch::new("free");
    let image = scratch.file("a.img", &[0; 4096]);
    let disk = format!("{},engine=io_uring", image.display());
    for _ in 0..8 {
        let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF));
        let Some(machine) = machine else { return };
        let exit = machine.with(["--disk", &disk]).run();
        assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
    }
}

#[test]
fn paths_of_a_file_are_taken_from_its_directory_also_those_behind_an_image() {
    let Some(machine) = Machine::new(&Guest::says("hello").then(guest::POWER_OFF)) else { return };
    machine.scratch.file("base", &qcow2("", &[]));
    machine.scratch.file("front", &qcow2("base", &[]));
    machine.scratch.file("raw", &[0; 4096]);
    let toml = "kernel = 'kernel'\nmemory = '16M'\n\
                [[disk]]\npath = 'front'\nformat = 'qcow2'\nbacking = 'base'\nops-per-sec = 100\n\
                [[disk]]\npath = 'raw'\nengine = 'sync'\nqueues = 2\ndirect = false\n";
    let toml = machine.scratch.file("vm.toml", toml.as_bytes());
    let exit = harness::Purlin::start(["run", toml.to_str().unwrap()]).wait(LIMIT);
    assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
}
