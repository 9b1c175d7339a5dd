//! Sockets between guest and host, as the command line gives them.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::{
        fs::MetadataExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use harness::{Guest, Purlin, Scratch, guest};
use nix::sys::signal::Signal;

use crate::{LIMIT, Machine, wait_until};

fn refused(vsock: &str) -> Option<String> {
    let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF))?;
    let exit = machine.with(["--vsock", vsock]).run();
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    Some(exit.errors)
}

/// A machine with a socket at `path`, whose guest says "ready" and then runs `code`.
fn ready(path: &Path, code: &[u8]) -> Option<(Machine, Purlin)> {
    let machine = Machine::new(&Guest::says("ready").then(code))?;
    let flags = ["--vsock", path.to_str().unwrap(), "--grace", "600"];
    let machine = machine.with(flags);
    let mut purlin = machine.start();
    purlin.expect("ready", LIMIT);
    Some((machine, purlin))
}

#[test]
fn an_address_that_is_reserved_is_refused() {
    for cid in ["0", "1", "2", "4294967295"] {
        let Some(error) = refused(&format!("/tmp/unused,cid={cid}")) else { return };
        assert!(error.contains(&format!("{cid} cannot be a guest's CID")), "{error}");
    }
    let Some(error) = refused("cid=3") else { return };
    assert!(error.contains("say --vsock PATH"), "{error}");
}

#[test]
fn values_that_are_none_are_refused_with_what_is_right() {
    let Some(machine) = Machine::new(&Guest::says("hello").then(guest::POWER_OFF)) else { return };
    let exit = machine.with(["--vsock", "/tmp/unused,cid=x"]).run();
    assert_eq!(exit.status, 2);
    assert!(exit.errors.contains("--vsock") && exit.errors.contains("a whole number"));
    let machine = Machine::new(&Guest::says("hello")).unwrap();
    let exit = machine.with(["--vsock", "/tmp/unused,cd=4"]).run();
    assert!(exit.errors.contains("did you mean `cid`?"), "{}", exit.errors);
}

#[test]
fn a_path_that_is_taken_is_refused_and_left_alone() {
    let scratch = Scratch::new("vsock");
    let path = scratch.path("socket");
    let flag = path.to_str().unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let Some(error) = refused(flag) else { return };
    assert!(error.contains(&format!("{flag} is in use by another process")), "{error}");
    drop(listener);
    let Some(error) = refused(flag) else { return };
    assert!(error.contains(&format!("remove it (rm {flag})")), "{error}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let Some(error) = refused(flag) else { return };
    assert!(error.contains(&format!("{flag} exists and is not a socket")), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_path_without_room_for_ports_is_refused() {
    let Some(error) = refused(&format!("/tmp/{}", "x".repeat(92))) else { return };
    assert!(error.contains("has 1 to 96 bytes"), "{error}");
    let Some(error) = refused("/no/such/socket") else { return };
    assert!(error.contains("the socket /no/such/socket cannot be made: No such"), "{error}");
}

#[test]
fn the_socket_is_gone_when_the_guest_has_powered_off() {
    let scratch = Scratch::new("vsock");
    let path = scratch.path("socket");
    let off = [guest::BUTTON, guest::POWER_OFF, guest::SPIN].concat();
    let Some((_machine, purlin)) = ready(&path, &off) else { return };
    assert!(UnixStream::connect(&path).is_ok());
    purlin.signal(Signal::SIGINT);
    assert_eq!(purlin.wait(LIMIT).status, 0);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn the_socket_is_gone_when_the_run_was_stopped() {
    let scratch = Scratch::new("vsock");
    let path = scratch.path("socket");
    let Some((machine, purlin)) = ready(&path, guest::SPIN) else { return };
    purlin.signal(Signal::SIGINT);
    purlin.signal(Signal::SIGQUIT);
    assert_eq!(purlin.wait(LIMIT).status, 14);
    assert!(!path.exists(), "the socket is left behind");
    fs::write(&machine.kernel, "no kernel").unwrap();
    assert_eq!(machine.run().status, 2);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn the_socket_stays_over_a_reboot() {
    let scratch = Scratch::new("vsock");
    let path = scratch.path("socket");
    let guest = Guest::says("boot ").then(guest::RESET).then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let flags = ["--vsock", path.to_str().unwrap(), "--on-reset", "reboot"];
    let machine = machine.with(flags);
    let mut purlin = machine.start();
    purlin.expect("boot ", LIMIT);
    let file = fs::metadata(&path).unwrap().ino();
    // It waits, because no guest has a driver.
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    purlin.expect("boot boot boot ", LIMIT);
    assert_eq!(fs::metadata(&path).unwrap().ino(), file);
    client.set_nonblocking(true).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    purlin.signal(Signal::SIGQUIT);
    assert_eq!(purlin.wait(LIMIT).status, 14);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_file_says_the_same_as_the_flag() {
    let guest = Guest::says("ready").then(guest::SPIN);
    let Some(machine) = Machine::new(&guest) else { return };
    let toml = "[vsock]\npath = \"socket\"\ncid = 7\n";
    let file = machine.scratch.file("vm.toml", toml.as_bytes());
    let path = machine.scratch.path("socket");
    let machine = machine.with([file]);
    let mut purlin = machine.start();
    purlin.expect("ready", LIMIT);
    // The path is taken from the file's directory.
    wait_until("the socket is there", || path.exists());
    purlin.signal(Signal::SIGQUIT);
    assert_eq!(purlin.wait(LIMIT).status, 14);
    let exit = machine.with(["--vsock", "cid=1"]).run();
    assert!(exit.errors.contains("1 cannot be a guest's CID"), "{}", exit.errors);
}
