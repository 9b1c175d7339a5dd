//! Guests that do as much as they can of what costs the VMM something.

use std::{io, process::Stdio};

use harness::{Guest, Pty, Purlin, guest};
use nix::sys::signal::Signal;

use crate::{LIMIT, Machine, wait_until};

/// Bytes that may be said about a flood.
const FEW: usize = 64 << 10;

/// Waits until the process says that the power button is pressed, and sends the second signal.
fn stop_by_signals(mut purlin: Purlin) {
    purlin.signal(Signal::SIGTERM);
    purlin.expect_error("pressing the power button", LIMIT);
    purlin.signal(Signal::SIGTERM);
    let exit = purlin.wait(LIMIT);
    assert_eq!(exit.status, 14, "{}", exit.errors);
    assert!(exit.errors.len() < FEW, "{} bytes on standard error", exit.errors.len());
}

#[test]
fn a_flood_of_unclaimed_ports_leaves_the_log_small_and_signals_heard() {
    let Some(machine) = Machine::new(&Guest::says("ready").then(guest::PORT_FLOOD)) else { return };
    let machine = machine.with(["-vv", "--grace", "600"]);
    let mut purlin = machine.start();
    purlin.expect("ready", LIMIT);
    std::thread::sleep(std::time::Duration::from_secs(1)); // of flood
    stop_by_signals(purlin);
}

#[test]
fn a_console_that_nobody_reads_does_not_keep_signals_out() {
    let Some(machine) = Machine::new(&Guest::default().then(guest::FLOOD)) else { return };
    let machine = machine.with(["-v", "--grace", "600"]);
    let (reader, writer) = io::pipe().unwrap();
    let mut command = machine.command();
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let purlin = Purlin::attach(&mut command);
    drop(command);
    wait_until("the vCPU waits for a reader", || is_blocked(purlin.id()));
    stop_by_signals(purlin);
    drop(reader);
}

/// Ctrl-A x ends a flood into a terminal that nobody reads; messages go where `errors` says.
fn ctrl_a_x_ends_a_flood(errors: impl FnOnce(&Pty) -> Stdio) {
    let Some(machine) = Machine::new(&Guest::default().then(guest::FLOOD)) else { return };
    let mut pty = Pty::open();
    let mut command = machine.command();
    command.stdin(pty.stdio()).stdout(pty.stdio()).stderr(errors(&pty));
    let purlin = Purlin::attach(&mut command);
    wait_until("the vCPU waits for a reader", || is_blocked(purlin.id()));
    pty.type_in(b"\x01x");
    assert_eq!(purlin.wait(LIMIT).status, 14);
    assert!(!pty.is_raw(), "the settings do not come back");
}

#[test]
fn a_terminal_that_nobody_reads_does_not_keep_ctrl_a_x_out() {
    ctrl_a_x_ends_a_flood(|_| Stdio::piped());
}

#[test]
fn a_terminal_that_takes_no_messages_either_does_not_keep_the_run_from_ending() {
    ctrl_a_x_ends_a_flood(Pty::stdio);
}

#[test]
fn a_flood_that_is_read_can_be_stopped() {
    let Some(machine) = Machine::new(&Guest::default().then(guest::FLOOD)) else { return };
    let machine = machine.with(["-v", "--grace", "600"]);
    let mut purlin = machine.start();
    purlin.expect(&"x".repeat(2000), LIMIT);
    stop_by_signals(purlin);
}

/// Whether a vCPU waits in a write to a pipe or a terminal: it sleeps, and has for two looks.
fn is_blocked(id: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else { return false };
    let mut blocked = false;
    for task in tasks.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let system_call = || read("syscall").starts_with("1 ");
        blocked |= read("comm").trim() == "vcpu0" && system_call() && {
            std::thread::sleep(std::time::Duration::from_millis(50));
            system_call()
        };
    }
    blocked
}
