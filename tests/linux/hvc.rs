//! The virtio console: a terminal, and a port for programs.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
};

use harness::{Pty, Scratch, child_of, send};
use nix::sys::signal::Signal;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{BOOT, Guest, value};

const BYTES: usize = 1_000_000;

fn sum(bytes: &[u8]) -> String {
    let mut command = Command::new("md5sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Reads until `text` has been seen.
fn expect(from: &mut UnixStream, text: &str) {
    from.set_read_timeout(Some(BOOT)).unwrap();
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains(text) {
        from.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
}

#[test]
fn a_terminal_and_a_port_for_programs_carry_both_ways() {
    let test = "a_terminal_and_a_port_for_programs_carry_both_ways";
    for bus in ["mmio", "pci"] {
        let Some(guest) = Guest::new(test, "hvc") else { return };
        let scratch = Scratch::new(test);
        let (terminal, agent) = (scratch.path("terminal"), scratch.path("agent"));
        let consoles = [
            format!("unix:{}", terminal.display()),
            format!("unix:{},name=org.example.agent", agent.display()),
        ];
        let [first, second] = consoles.each_ref().map(String::as_str);
        let arguments = ["--bus", bus, "--console", first, "--console", second];
        let mut purlin = guest.arguments(arguments).start();
        // The sockets are there before the guest says its first word.
        purlin.expect("PURLIN-BOOT", BOOT);
        let mut terminal = UnixStream::connect(terminal).unwrap();
        let mut agent = UnixStream::connect(agent).unwrap();

        let sent: Vec<u8> = (0..=250).cycle().step_by(7).take(BYTES).collect();
        agent.write_all(&sent).unwrap();
        agent.set_read_timeout(Some(BOOT)).unwrap();
        let mut back = vec![0; BYTES];
        agent.read_exact(&mut back).unwrap();
        expect(&mut terminal, "PURLIN-READY hvc");
        terminal.write_all(b"typed at hvc0\n").unwrap();

        let output = purlin.wait(BOOT).output;
        assert_eq!(value(&output, "PURLIN-PORT vport0p0 "), Some("none"), "{output}");
        assert_eq!(value(&output, "PURLIN-PORT vport0p1 "), Some("org.example.agent"), "{output}");
        assert_eq!(value(&output, "PURLIN-SUM "), Some(sum(&sent).as_str()), "{output}");
        assert_eq!(value(&output, "PURLIN-BACK "), Some(sum(&back).as_str()), "{output}");
        assert_eq!(value(&output, "PURLIN-HVC "), Some("typed at hvc0"), "{output}");
    }
}

fn resize(pty: &Pty, cols: u16, rows: u16) {
    let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(pty.screen(), size).unwrap();
}

#[test]
fn the_guests_terminal_has_the_size_of_the_users() {
    let test = "the_guests_terminal_has_the_size_of_the_users";
    let Some(guest) = Guest::new(test, "hvc") else { return };
    let scratch = Scratch::new(test);
    let log = scratch.path("log");
    let serial = format!("file:{}", log.display());
    let guest = guest.arguments(["--serial", &serial, "--console", "stdio"]);
    let mut terminal = Pty::open();
    resize(&terminal, 99, 33);
    let mut shell = terminal.run(guest.command_line());
    shell.expect("PURLIN-READY hvc", BOOT);
    resize(&terminal, 177, 55);
    // Wherever the terminal's own signal went.
    send(child_of(shell.id()), Signal::SIGWINCH);
    terminal.type_in(b"typed\r");
    shell.wait(BOOT);
    let output = std::fs::read_to_string(&log).unwrap();
    assert_eq!(value(&output, "PURLIN-SIZE "), Some("33 99"), "{output}");
    assert_eq!(value(&output, "PURLIN-HVC "), Some("typed"), "{output}");
    assert_eq!(value(&output, "PURLIN-RESIZED "), Some("55 177"), "{output}");
}
