//! The VMM of the README.

use std::process::{Command, Stdio};

use harness::{Guest, Purlin, Scratch, example, guest, has_kvm};

use crate::{LIMIT, test_name};

#[test]
fn the_sixty_line_vmm_runs_a_guest_to_its_power_off() {
    if !has_kvm(&test_name()) {
        return;
    }
    let scratch = Scratch::new("sixty");
    let guest = Guest::says("hello, ").wakes(1).then(guest::POWER_OFF).then(guest::SPIN);
    let mut command = Command::new(example("sixty"));
    command.arg(guest.file(&scratch)).stdin(Stdio::null());
    let exit = Purlin::attach(command.stdout(Stdio::piped()).stderr(Stdio::piped())).wait(LIMIT);
    assert_eq!(exit.status, 0, "{}", exit.errors);
    assert_eq!(exit.output, "hello, 02");
}

#[test]
fn the_sixty_line_vmm_says_how_a_guest_ended_otherwise() {
    if !has_kvm(&test_name()) {
        return;
    }
    let scratch = Scratch::new("sixty");
    let mut command = Command::new(example("sixty"));
    command.arg(Guest::says("oh").then(guest::RESET).then(guest::SPIN).file(&scratch));
    let exit = Purlin::spawn(&mut command).wait(LIMIT);
    assert_eq!((exit.status, exit.output.as_str()), (1, "oh"), "{}", exit.errors);
    assert!(exit.errors.contains("reset"), "{}", exit.errors);
}
