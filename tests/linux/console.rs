//! The serial console, both ways.

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
