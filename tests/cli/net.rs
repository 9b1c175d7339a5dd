//! Networks, as the command line gives them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use harness::{Exit, Guest, Purlin, child_of, guest};
use nix::sys::signal::Signal;

use crate::{LIMIT, Machine, wait_until};

fn machine(net: &str, code: &[u8]) -> Option<Machine> {
    Some(Machine::new(&Guest::says("hello").then(code))?.with(["--net", net]))
}

/// The only line that a run with `net` says before anything runs.
fn refused(net: &str) -> Option<String> {
    let exit = machine(net, guest::POWER_OFF)?.run();
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    Some(exit.errors)
}

#[test]
fn networks_that_cannot_be_are_refused_with_what_could() {
    for (net, why) in [
        ("tap=lo", "`lo` is no tap but another network interface"),
        ("tap=a-name-that-is-too-long", "a name has 1 to 15 characters"),
        ("fd=1", "descriptor 1 is no tap"),
        ("fd=4000000000", "is no tap"),
        ("socket=/no/such/socket", "cannot connect to the network socket \"/no/such/socket\""),
        ("user,queues=2", "only one with tap=NAME can have them"),
        ("tap=purlin0,fd=3", "a network card on several networks"),
        ("mtu=1", "an MTU of 1; it must be 68 to 65520"),
    ] {
        let Some(error) = refused(net) else { return };
        // A host without taps says so first.
        assert!(error.contains(why) || error.contains("/dev/net/tun"), "{net}: {error}");
    }
}

#[test]
fn values_that_are_none_are_refused_before_anything_else() {
    for (net, why) in [
        ("tap0", "is no network; one is user, tap=NAME, fd=NUMBER or socket=PATH"),
        ("tap=a,mca=02:00:00:00:00:01", "did you mean `mac`"),
        ("mac=03:00:00:00:00:01", "cannot be the address of a card"),
        ("rx-bytes-per-sec=fast", "is no number"),
    ] {
        let Some(machine) = machine(net, guest::POWER_OFF) else { return };
        let exit = machine.run();
        assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
        assert!(exit.errors.contains(why), "{net}: {}", exit.errors);
    }
}

/// Starts a machine on user networking by a `passt` that is `script`.
fn with_passt(machine: &Machine, script: &str) -> Purlin {
    let path = machine.scratch.file("passt", format!("#!/bin/sh\n{script}\n").as_bytes());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Purlin::spawn(machine.command().env("PATH", path.parent().unwrap()))
}

/// Ends with the connection, as passt does.
const FAITHFUL: &str = "exec /bin/cat >/dev/null";

#[test]
fn a_host_without_passt_is_told_the_package() {
    let Some(machine) = machine("user", guest::POWER_OFF) else { return };
    let exit = Purlin::spawn(machine.command().env("PATH", "/no/such/directory")).wait(LIMIT);
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    assert!(exit.errors.contains("install the package `passt`, or use a tap"), "{}", exit.errors);
}

#[test]
fn a_passt_that_does_not_run_is_quoted() {
    let Some(machine) = machine("user", guest::POWER_OFF) else { return };
    let exit = with_passt(&machine, "echo no route to anywhere >&2; exit 1").wait(LIMIT);
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    assert!(exit.errors.contains("(exit status: 1): no route to anywhere"), "{}", exit.errors);
}

/// Whether the process has ended, though nobody may have asked how.
fn has_ended(process: u32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    status.map_or(true, |status| status.rsplit(") ").next().is_some_and(|it| it.starts_with('Z')))
}

/// How a machine ends, and its passt with it.
fn ended(net: &str, code: &[u8], end: impl FnOnce(&Purlin)) -> Option<Exit> {
    let machine = machine(net, code)?;
    let mut running = with_passt(&machine, FAITHFUL);
    running.expect("hello", LIMIT);
    let passt = child_of(running.id());
    end(&running);
    let exit = running.wait(LIMIT);
    wait_until("passt ends, too", || has_ended(passt));
    Some(exit)
}

#[test]
fn passt_ends_with_the_machine_however_it_ends() {
    let heeding = [guest::BUTTON, guest::POWER_OFF].concat();
    let press = |running: &Purlin| running.signal(Signal::SIGTERM);
    let Some(exit) = ended("user", &heeding, press) else { return };
    assert_eq!((exit.status, exit.errors.as_str()), (0, ""));
    for (signal, status) in [(Signal::SIGQUIT, 14), (Signal::SIGKILL, 128 + 9)] {
        let exit = ended("mtu=1400", guest::SPIN, |running| running.signal(signal)).unwrap();
        assert_eq!(exit.status, status, "{signal}: {}", exit.errors);
    }
}

#[test]
fn a_passt_that_dies_leaves_the_guest_running() {
    let Some(machine) = machine("user", &[guest::BUTTON, guest::POWER_OFF].concat()) else {
        return;
    };
    let mut running = with_passt(&machine, FAITHFUL);
    running.expect("hello", LIMIT);
    let passt = child_of(running.id());
    harness::send(passt, Signal::SIGKILL);
    wait_until("passt ends", || has_ended(passt));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(LIMIT).status, 0);
}
