//! A guest is an ordinary process.

use std::{collections::BTreeMap, fs, process::Command};

use harness::{Guest, Purlin, guest};
use nix::sys::signal::Signal;

use crate::{LIMIT, Machine, wait_until};

/// A machine whose guest has said "ready", and then runs `code`.
fn ready(code: &[u8], arguments: &[&str]) -> Option<(Machine, Purlin)> {
    let machine = Machine::new(&Guest::says("ready").then(code))?.with(arguments);
    let mut purlin = machine.start();
    purlin.expect("ready", LIMIT);
    Some((machine, purlin))
}

/// A guest that powers off when its power button is pressed.
fn heeding() -> Vec<u8> {
    [guest::BUTTON, guest::POWER_OFF, guest::SPIN].concat()
}

#[test]
fn a_signal_presses_the_power_button() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // The grace is more than the test waits.
        let Some((_machine, purlin)) = ready(&heeding(), &["--grace", "600"]) else { return };
        purlin.signal(signal);
        let exit = purlin.wait(LIMIT);
        assert_eq!((exit.status, exit.errors.as_str()), (0, ""), "{signal}");
    }
}

#[test]
fn a_guest_that_ignores_the_button_is_stopped_after_the_grace() {
    let Some((_machine, purlin)) = ready(guest::SPIN, &["--grace", "1"]) else { return };
    purlin.signal(Signal::SIGTERM);
    let exit = purlin.wait(LIMIT);
    assert_eq!(exit.status, 14);
    assert!(exit.errors.contains("the guest did not shut down within 1s"), "{}", exit.errors);
    assert!(exit.errors.contains("purlin: the run was stopped from outside"), "{}", exit.errors);
}

#[test]
fn a_second_signal_stops_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let flags = ["-v", "--grace", "600"];
        let Some((_machine, mut purlin)) = ready(guest::SPIN, &flags) else { return };
        purlin.signal(signal);
        purlin.expect_error("pressing the power button", LIMIT);
        purlin.signal(signal);
        assert_eq!(purlin.wait(LIMIT).status, 14, "{signal}");
    }
}

#[test]
fn sigquit_stops_at_once() {
    let Some((_machine, purlin)) = ready(guest::SPIN, &["--grace", "600"]) else { return };
    purlin.signal(Signal::SIGQUIT);
    let exit = purlin.wait(LIMIT);
    let told = "purlin: the run was stopped from outside\n";
    assert_eq!((exit.status, exit.errors.as_str()), (14, told));
}

/// The state of a process, and the clock ticks that it has used.
fn usage(id: u32) -> (String, u64) {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    (fields[0].into(), ticks(11) + ticks(12))
}

#[test]
fn sigstop_freezes_the_guest_and_sigcont_lets_it_go_on() {
    let Some((_machine, purlin)) = ready(&heeding(), &["--grace", "600"]) else { return };
    let id = purlin.id();
    purlin.signal(Signal::SIGSTOP);
    wait_until("the process is stopped", || usage(id).0 == "T");
    let frozen = usage(id).1;
    // Nothing to wait for: that something does not happen takes time to see.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(usage(id), ("T".into(), frozen), "it used CPU time while stopped");
    purlin.signal(Signal::SIGCONT);
    wait_until("the guest goes on", || usage(id).1 > frozen);
    purlin.signal(Signal::SIGTERM);
    assert_eq!(purlin.wait(LIMIT).status, 0);
}

#[test]
fn every_thread_has_its_name() {
    let Some((_machine, purlin)) = ready(guest::SPIN, &["--cpus", "2"]) else { return };
    let expected = ["io0", "purlin", "vcpu0", "vcpu1"].map(|name| (name.to_owned(), 1));
    let expected = BTreeMap::from(expected);
    // A thread names itself after it has started.
    wait_until("vCPUs + 2 threads have names", || thread_names(purlin.id()) == expected);
    purlin.signal(Signal::SIGQUIT);
    purlin.wait(LIMIT);
}

/// How many threads of each name a process has, KVM's own worker left out.
fn thread_names(id: u32) -> BTreeMap<String, u32> {
    let mut names = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{id}/task")).unwrap() {
        let name = fs::read_to_string(task.unwrap().path().join("comm")).unwrap();
        if !name.starts_with("kvm-") {
            *names.entry(name.trim().to_owned()).or_default() += 1;
        }
    }
    names
}

#[test]
fn the_process_can_be_pinned_and_made_nice() {
    let Some(machine) = Machine::new(&Guest::says("ready").then(guest::SPIN)) else { return };
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0", "nice", "-n", "7"]).arg(harness::binary());
    let mut purlin = Purlin::spawn(command.args(machine.all_arguments()));
    purlin.expect("ready", LIMIT);
    let tasks = fs::read_dir(format!("/proc/{}/task", purlin.id())).unwrap();
    for task in tasks.map(|task| task.unwrap().path()) {
        let read = |name: &str| fs::read_to_string(task.join(name)).unwrap();
        let name = read("comm");
        if name.starts_with("vcpu") {
            assert!(read("status").contains("\nCpus_allowed_list:\t0\n"), "{name}");
            let stat = read("stat");
            let nice = stat.rsplit_once(") ").unwrap().1.split(' ').nth(16);
            assert_eq!(nice, Some("7"), "{name}");
        }
    }
    purlin.signal(Signal::SIGQUIT);
    assert_eq!(purlin.wait(LIMIT).status, 14);
}
