//! Processors, woken as a kernel wakes them: INIT and start-up messages through the local APIC.

use harness::{Guest, guest};

use crate::Machine;

/// How many processors a guest finds with `--cpus LIST`, of which `count` must come up.
fn found(list: &str, count: u8) -> Option<String> {
    let guest = Guest::says("cpus=").wakes(count - 1).then(guest::POWER_OFF).then(guest::SPIN);
    let exit = Machine::new(&guest)?.with(["--cpus", list]).run();
    assert_eq!(exit.status, 0, "{}", exit.errors);
    Some(exit.output)
}

#[test]
fn as_many_processors_come_up_as_are_asked_for() {
    for (list, count) in [("1", 1), ("2", 2), ("4", 4), ("6,threads=3", 6), ("3,sockets=3", 3)] {
        let Some(found) = found(list, count) else { return };
        assert_eq!(found, format!("cpus=0{count}"), "--cpus {list}");
    }
}

#[test]
fn sixty_four_processors_come_up() {
    if let Some(found) = found("64", 64) {
        assert_eq!(found, "cpus=64");
    }
}
