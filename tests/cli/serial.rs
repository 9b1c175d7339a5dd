//! Where serial ports and the debug console can go.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use harness::{
    Guest,
    guest::{self, COM1, COM2, DEBUG_CONSOLE},
};
use nix::{
    fcntl::OFlag,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
};

use crate::{LIMIT, Machine, wait_until};

/// A guest that says "one" on COM1 and "two" on COM2, and powers off.
fn two() -> Guest {
    Guest::says("one").prints(COM2, "two").then(guest::POWER_OFF).then(guest::SPIN)
}

fn target(kind: &str, path: &Path) -> String {
    format!("{kind}:{}", path.display())
}

#[test]
fn a_file_is_made_anew_and_appended_to() {
    let Some(machine) = Machine::new(&two()) else { return };
    let first = machine.scratch.file("first", b"before, and much longer");
    let second = machine.scratch.file("second", b"before ");
    let list = format!("{},com2={}", target("file", &first), target("append", &second));
    let machine = machine.with(["--serial", &list]);
    let exit = machine.run();
    assert_eq!((exit.status, exit.output.as_str(), exit.errors.as_str()), (0, "", ""));
    assert_eq!(fs::read_to_string(first).unwrap(), "one");
    assert_eq!(fs::read_to_string(second).unwrap(), "before two");
}

#[test]
fn two_ports_and_the_debug_console_go_where_each_is_sent() {
    let guest = Guest::default().prints(DEBUG_CONSOLE, "debug").prints(0x402, "bios");
    let guest = guest.prints(COM1, "one").prints(COM2, "two").then(guest::POWER_OFF);
    let Some(machine) = Machine::new(&guest) else { return };
    let (second, debug) = (machine.scratch.path("second"), machine.scratch.path("debug"));
    let machine = machine.with(["--serial".into(), format!("com2={}", target("file", &second))]);
    let machine = machine.with(["--debug-console".into(), target("file", &debug)]);
    let exit = machine.run();
    assert_eq!((exit.status, exit.output.as_str()), (0, "one"), "{}", exit.errors);
    assert_eq!(fs::read_to_string(second).unwrap(), "two");
    assert_eq!(fs::read_to_string(debug).unwrap(), "debugbios");
}

#[test]
fn a_port_that_is_not_there_reads_as_nothing() {
    let Some(machine) = Machine::new(&two()) else { return };
    let exit = machine.with(["--serial", "none"]).run();
    assert_eq!((exit.status, exit.output.as_str(), exit.errors.as_str()), (0, "", ""));
}

#[test]
fn a_pty_tells_its_path_and_carries_both_ways() {
    let guest = Guest::default().then(guest::ECHO).then(guest::POWER_OFF).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let machine = machine.with(["--serial", "pty"]);
    let mut purlin = machine.start();
    let told = purlin.expect_error("\n", LIMIT);
    let path = told.trim().strip_prefix("purlin: com1 is ").unwrap();
    // Else it may become the terminal of the process that runs the tests, whose hang-up kills it.
    let flags = OFlag::O_NOCTTY.bits();
    let mut client = File::options().read(true).write(true).custom_flags(flags).open(path).unwrap();
    let mut settings = tcgetattr(&client).unwrap();
    cfmakeraw(&mut settings);
    tcsetattr(&client, SetArg::TCSANOW, &settings).unwrap();
    client.write_all(b"hello").unwrap();
    let mut echo = [0; 5];
    client.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");
    client.write_all(b"q").unwrap();
    assert_eq!(purlin.wait(LIMIT).status, 0);
}

#[test]
fn a_socket_carries_both_ways_and_is_removed() {
    let guest = Guest::default().then(guest::ECHO).then(guest::POWER_OFF).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let path = machine.scratch.path("socket");
    let machine = machine.with(["--serial".into(), target("unix", &path)]);
    let purlin = machine.start();
    wait_until("the socket is there", || path.exists());
    wait_until("it accepts", || UnixStream::connect(&path).is_ok());
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut echo = [0; 5];
    client.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");
    client.write_all(b"q").unwrap();
    assert_eq!(purlin.wait(LIMIT).status, 0);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_socket_is_removed_when_the_run_is_stopped_or_fails() {
    let Some(machine) = Machine::new(&Guest::default().then(guest::SPIN)) else { return };
    let path = machine.scratch.path("socket");
    let machine = machine.with(["--serial".into(), target("unix", &path)]);
    let purlin = machine.start();
    wait_until("the socket is there", || path.exists());
    purlin.signal(nix::sys::signal::Signal::SIGQUIT);
    assert_eq!(purlin.wait(LIMIT).status, 14);
    assert!(!path.exists(), "the socket is left behind");
    fs::write(&machine.kernel, "no kernel").unwrap();
    assert_eq!(machine.run().status, 2);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_path_that_cannot_be_written_is_refused_by_name() {
    let Some(machine) = Machine::new(&two()) else { return };
    let path = machine.scratch.path("missing").join("log");
    for kind in ["file", "append", "unix"] {
        let target = target(kind, &path);
        let exit = Machine::new(&two()).unwrap().with(["--serial", &target]).run();
        assert_eq!(exit.status, 2, "{}", exit.errors);
        let told = format!("purlin: error: com1 cannot be connected to {target}: ");
        assert!(exit.errors.starts_with(&told), "{}", exit.errors);
        assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    }
}

#[test]
fn a_full_disk_costs_output_but_not_the_guest() {
    let text = "x".repeat(2000);
    let guest = Guest::says(&text).then(guest::POWER_OFF).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let exit = machine.with(["--serial", "append:/dev/full"]).run();
    assert_eq!(exit.status, 0, "{}", exit.errors);
    assert!(exit.errors.contains("com1: output is lost"), "{}", exit.errors);
    assert!(exit.errors.lines().count() <= 12, "{}", exit.errors);
}

#[test]
fn a_console_that_is_closed_costs_output_but_not_the_guest() {
    let text = "x".repeat(2000);
    let guest = Guest::says(&text).then(guest::POWER_OFF).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = machine.command();
    command.stdin(std::process::Stdio::null()).stdout(writer);
    let purlin = harness::Purlin::attach(command.stderr(std::process::Stdio::piped()));
    let exit = purlin.wait(LIMIT);
    assert_eq!(exit.status, 0, "{}", exit.errors);
    assert!(exit.errors.lines().count() <= 12, "{}", exit.errors);
}

#[test]
fn input_from_a_file_reaches_the_guest_whole() {
    let guest = Guest::default().then(guest::ECHO).then(guest::POWER_OFF).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    // Ctrl-A x is no command where nobody types.
    let text = format!("{}\x01x{}q", "a".repeat(100), "b".repeat(100));
    let input = machine.scratch.file("input", text.as_bytes());
    let mut command = machine.command();
    command.stdin(File::open(input).unwrap()).stdout(std::process::Stdio::piped());
    let exit = harness::Purlin::attach(&mut command).wait(LIMIT);
    assert_eq!((exit.status, exit.output), (0, text));
}

#[test]
fn a_port_keeps_its_file_over_reboots() {
    let guest = Guest::default().prints(COM1, "boot.").then(guest::RESET).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let log = machine.scratch.path("log");
    let machine = machine.with(["--on-reset", "reboot", "--serial", &target("file", &log)]);
    let purlin = machine.start();
    wait_until("the log holds two boots", || {
        fs::read_to_string(&log).is_ok_and(|text| text.starts_with("boot.boot."))
    });
    purlin.signal(nix::sys::signal::Signal::SIGQUIT);
    assert_eq!(purlin.wait(Duration::from_secs(60)).status, 14);
}

#[test]
fn a_kernel_that_is_none_leaves_the_file_of_a_port_alone() {
    let scratch = harness::Scratch::new("left-alone");
    let log = scratch.file("log", b"yesterday's");
    let kernel = scratch.file("kernel", b"no kernel at all");
    let serial = format!("file:{}", log.display());
    let args = ["run", "--serial", &serial, "--kernel", kernel.to_str().unwrap()];
    let exit = harness::Purlin::start(args).wait(LIMIT);
    assert_eq!(exit.status, 2, "{}", exit.errors);
    assert_eq!(std::fs::read(log).unwrap(), b"yesterday's");
}
