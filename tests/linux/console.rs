//! The serial console, both ways.

use harness::Pty;
use vmm::status::ExitStatus;

use crate::{BOOT, Guest};

#[test]
fn what_is_typed_reaches_the_guest() {
    let Some(guest) = Guest::new("what_is_typed_reaches_the_guest", "echo") else { return };
    let mut purlin = guest.start();
    purlin.expect("PURLIN-READY echo", BOOT);
    purlin.type_in("hello from outside\n");
    let exit = purlin.wait(BOOT);
    assert!(exit.output.contains("PURLIN-ECHO hello from outside"), "{}", exit.output);
}

#[test]
fn ctrl_a_d_restarts_the_guest_as_ctrl_alt_del_does() {
    let test = "ctrl_a_d_restarts_the_guest_as_ctrl_alt_del_does";
    let Some(guest) = Guest::new(test, "keys") else { return };
    let mut terminal = Pty::open();
    let mut purlin = terminal.run(guest.command_line());
    purlin.expect("PURLIN-READY keys", BOOT);
    terminal.type_in(b"\x01d");
    let exit = purlin.wait(BOOT);
    assert_eq!(exit.status, i32::from(ExitStatus::Reset.code()), "{}", exit.output);
}
