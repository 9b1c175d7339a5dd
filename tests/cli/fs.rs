//! Shared directories, and commands in one.

use std::fs;

use harness::{Guest, Purlin, Scratch, guest};

use crate::{LIMIT, Machine};

/// The one line that a machine is refused with.
fn refused(arguments: &[&str]) -> Option<String> {
    let machine = Machine::new(&Guest::says("not this"))?;
    let exit = machine.with(arguments.iter().copied()).run();
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    Some(exit.errors)
}

#[test]
fn a_directory_that_is_none_is_refused_by_name() {
    let Some(error) = refused(&["--fs", "/no/such/directory"]) else { return };
    assert!(error.contains("/no/such/directory cannot be shared"), "{error}");
    let error = refused(&["--root", "/etc/passwd"]).unwrap();
    assert!(error.contains("/etc/passwd cannot be shared"), "{error}");
}

#[test]
fn a_tag_that_cannot_be_or_is_there_twice_is_refused() {
    let Some(error) = refused(&["--fs", "/tmp,tag=a", "--fs", "/var,tag=a"]) else { return };
    assert!(error.contains("two directories have the tag `a`"), "{error}");
    let tag = format!("/tmp,tag={}", "t".repeat(37));
    let error = refused(&["--fs", &tag]).unwrap();
    assert!(error.contains("cannot be a tag: 1 to 36 bytes"), "{error}");
}

#[test]
fn wrong_keys_and_words_are_refused_with_the_nearest() {
    for (list, right) in [
        ("/tmp,readonly=on", "did you mean `read-only`?"),
        ("/tmp,cache=aways", "did you mean `always`?"),
        ("/tmp,read-only=maybe", "a switch is on or off"),
    ] {
        for flag in ["--fs", "--root"] {
            let Some(machine) = Machine::new(&Guest::says("not this")) else { return };
            let exit = machine.with([flag, list]).run();
            assert_eq!(exit.status, 2);
            assert!(exit.errors.contains(right), "{list}: {}", exit.errors);
        }
    }
}

#[test]
fn a_command_without_a_root_is_refused() {
    let Some(error) = refused(&["--", "ls"]) else { return };
    assert!(error.contains("say --root DIR"), "{error}");
}

#[test]
fn a_file_says_the_same_as_flags() {
    let guest = Guest::says("hello").then(guest::POWER_OFF);
    let Some(machine) = Machine::new(&guest) else { return };
    let scratch = Scratch::new("fs-toml");
    fs::create_dir(scratch.path("share")).unwrap();
    let kernel = machine.kernel.display();
    let toml = format!(
        "kernel = '{kernel}'\nfs = ['share', 'share,tag=two']\nroot = 'share,read-only=on'\n\
         command = ['sh', '-c', 'true']"
    );
    let toml = scratch.file("vm.toml", toml.as_bytes());
    let exit = Purlin::start(["run", toml.to_str().unwrap()]).wait(LIMIT);
    // This guest has ended before it ran the command.
    assert_eq!(exit.output, "hello", "{}", exit.errors);
    assert!(exit.errors.contains("before the command had ended"), "{}", exit.errors);
    assert_eq!(exit.status, 4);
    assert_eq!(fs::read_dir(scratch.path("share")).unwrap().count(), 0);
}

#[test]
fn a_status_that_is_told_by_port_ends_the_machine_whatever_it_is() {
    for status in [0, 1, 42, 255] {
        // mov al,status; mov edx,0x520; out dx,al
        let guest = Guest::says("run").then(&[0xb0, status, 0xba, 0x20, 5, 0, 0, 0xee]);
        let Some(machine) = Machine::new(&guest) else { return };
        let root = machine.scratch.path("").to_str().unwrap().to_owned();
        let exit = machine.with(["--root", &root, "--", "true"]).run();
        assert_eq!((exit.status, exit.output.as_str()), (status.into(), "run"), "{}", exit.errors);
        assert_eq!(exit.errors, "");
    }
}

#[test]
fn a_machine_without_a_command_has_no_such_port() {
    let status = [0xb0, 42, 0xba, 0x20, 5, 0, 0, 0xee];
    let guest = Guest::says("run").then(&status).then(guest::POWER_OFF);
    let Some(machine) = Machine::new(&guest) else { return };
    assert_eq!(machine.run().status, 0);
}
