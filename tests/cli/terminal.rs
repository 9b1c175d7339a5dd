//! The terminal: the guest's while it runs, the user's afterwards.

use harness::{Guest, Pty, Purlin, child_of, guest, send};
use nix::sys::signal::Signal;

use crate::{LIMIT, Machine, wait_until};

/// Runs `guest` on a terminal until it has said "ready".
fn ready(guest: &[u8], arguments: &[&str]) -> Option<(Machine, Pty, Purlin)> {
    let machine = Machine::new(&Guest::says("ready").then(guest))?.with(arguments);
    let pty = Pty::open();
    let mut shell = pty.run(machine.all_arguments());
    shell.expect("ready", LIMIT);
    assert!(pty.is_raw(), "keys do not go to the guest as they are typed");
    Some((machine, pty, shell))
}

/// Waits for the end, and compares the exit status and the settings before and after; what the
/// terminal showed in between.
fn restored(shell: Purlin, status: i32) -> String {
    let exit = shell.wait(LIMIT);
    assert_eq!(exit.status, status, "{}", exit.output);
    let (before, rest) = exit.output.split_once("\r\n").unwrap();
    let (shown, after) = rest.trim_end().rsplit_once('\n').unwrap_or(("", rest.trim_end()));
    assert!(after.ends_with(before), "{before} became {after}");
    assert!(before.contains(':'), "{before} are no settings");
    shown.to_owned()
}

#[test]
fn settings_come_back_after_power_off() {
    let guest = [guest::BUTTON, guest::POWER_OFF].concat();
    let Some((_machine, _pty, shell)) = ready(&guest, &["--grace", "600"]) else { return };
    send(child_of(shell.id()), Signal::SIGTERM);
    restored(shell, 0);
}

#[test]
fn settings_come_back_after_ctrl_a_x() {
    let Some((_machine, mut pty, shell)) = ready(guest::SPIN, &[]) else { return };
    pty.type_in(b"\x01x");
    let shown = restored(shell, 14);
    assert!(shown.contains("purlin: the run was stopped from outside"), "{shown}");
}

#[test]
fn settings_come_back_after_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let Some((_machine, _pty, shell)) = ready(guest::SPIN, &["--grace", "0"]) else { return };
        send(child_of(shell.id()), signal);
        restored(shell, 14);
    }
}

#[test]
fn settings_come_back_after_a_crash() {
    let guest = [guest::BUTTON, guest::TRIPLE_FAULT].concat();
    let Some((_machine, _pty, shell)) = ready(&guest, &["--grace", "600"]) else { return };
    send(child_of(shell.id()), Signal::SIGTERM);
    let shown = restored(shell, 10);
    assert!(shown.contains("triple-faulted"), "{shown}");
}

#[test]
fn settings_stay_after_a_wrong_configuration() {
    let pty = Pty::open();
    let shown = restored(pty.run(["run", "--kernel", "/nonexistent"]), 2);
    assert!(shown.contains("/nonexistent"), "{shown}");
}

#[test]
fn ctrl_c_and_other_keys_go_to_the_guest() {
    let guest = [guest::ECHO, guest::POWER_OFF].concat();
    let Some((_machine, mut pty, mut shell)) = ready(&guest, &[]) else { return };
    // Were they echoed by the terminal, they would show as ^C and so on.
    for key in ["\x03", "\x1a", "\x1c", "\x13", "\x04", "\r"] {
        pty.type_in(key.as_bytes());
        shell.expect_after("ready", key, LIMIT);
    }
    pty.type_in(b"q");
    let exit = shell.wait(LIMIT);
    assert_eq!(exit.status, 0);
    assert!(exit.output.contains("ready\x03\x1a\x1c\x13\x04\rq"), "{:?}", exit.output);
}

#[test]
fn ctrl_a_a_sends_one_ctrl_a() {
    let guest = [guest::ECHO, guest::POWER_OFF].concat();
    let Some((_machine, mut pty, shell)) = ready(&guest, &[]) else { return };
    pty.type_in(b"\x01a<\x01\x01>q");
    let exit = shell.wait(LIMIT);
    assert!(exit.output.contains("ready\x01<\x01>q"), "{:?}", exit.output);
}

#[test]
fn ctrl_a_h_tells_the_keys() {
    let guest = [guest::ECHO, guest::POWER_OFF].concat();
    let Some((_machine, mut pty, mut shell)) = ready(&guest, &[]) else { return };
    pty.type_in(b"\x01h");
    shell.expect("Ctrl-A x", LIMIT);
    pty.type_in(b"q");
    assert_eq!(shell.wait(LIMIT).status, 0);
}

#[test]
fn a_suspended_machine_lends_the_terminal_and_takes_it_again() {
    let guest = [guest::BUTTON, guest::POWER_OFF].concat();
    let Some((_machine, pty, shell)) = ready(&guest, &["--grace", "600"]) else { return };
    let purlin = child_of(shell.id());
    send(purlin, Signal::SIGTSTP);
    wait_until("the process is stopped", || state(purlin) == "T");
    assert!(!pty.is_raw(), "a shell would get a raw terminal");
    send(purlin, Signal::SIGCONT);
    wait_until("the terminal is raw again", || pty.is_raw());
    send(purlin, Signal::SIGTERM);
    restored(shell, 0);
}

/// The state of a process, as `ps` shows it.
fn state(id: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1[..1].into()
}

#[test]
fn a_console_elsewhere_leaves_the_terminal_alone() {
    let Some(machine) = Machine::new(&Guest::says("ready").then(guest::SPIN)) else { return };
    let log = machine.scratch.path("log");
    let machine = machine.with(["--serial".into(), format!("file:{}", log.display())]);
    let pty = Pty::open();
    let mut shell = pty.run(machine.all_arguments());
    wait_until("the guest is ready", || std::fs::read(&log).is_ok_and(|log| log == b"ready"));
    assert!(!pty.is_raw());
    shell.expect(":", LIMIT);
    send(child_of(shell.id()), Signal::SIGQUIT);
    restored(shell, 14);
}
