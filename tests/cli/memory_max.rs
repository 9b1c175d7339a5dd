//! Memory that a machine can gain, as the command line gives it.

use harness::{Guest, guest};

use crate::Machine;

/// A machine of 16 MiB with `--memory-max LIST`: its exit status and what it says.
fn run(list: &str) -> Option<(i32, String)> {
    let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF).then(guest::SPIN))?;
    let exit = machine.with(["--memory-max", list]).run();
    assert_eq!(exit.output, if exit.status == 0 { "hello" } else { "" });
    Some((exit.status, exit.errors))
}

#[test]
fn a_machine_starts_with_what_memory_says() {
    let Some(machine) = Machine::new(&Guest::default().uses(32 << 20).then(guest::SPIN)) else {
        return;
    };
    let exit = machine.with(["--memory-max", "64M,requested=64M"]).run();
    assert_eq!(exit.status, i32::from(guest::LOST) * 2 + 1, "there is RAM at 32 MiB");
    assert_eq!(run("64M,requested=18M").unwrap(), (0, String::new()));
}

#[test]
fn sizes_that_cannot_be_are_refused_with_those_that_can() {
    for (list, right) in [
        ("16M", "memory-max of 16M: it must be more than memory, which has 16M"),
        ("17M", "memory-max of 17M: sizes go from 16M to 17M in steps of 2M"),
        ("64M,requested=8M", "memory-max of 8M: sizes go from 16M to 64M in steps of 2M"),
        ("64M,requested=66M", "memory-max of 66M: sizes go from 16M to 64M in steps of 2M"),
        ("requested=64M", "memory-max of 64M: what is requested needs a size that there can be"),
        ("16000000T", "there is no place for"),
    ] {
        let Some((status, errors)) = run(list) else { return };
        assert_eq!(status, 2, "{list}: {errors}");
        assert!(errors.contains(right), "{list}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn what_is_no_size_is_refused_by_name() {
    let Some((status, errors)) = run("64M,requested=much") else { return };
    assert_eq!(status, 2);
    assert!(errors.contains("\"much\" is no size"), "{errors}");
}

#[test]
fn reserved_pages_do_not_grow() {
    let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF));
    let Some(machine) = machine else { return };
    let exit = machine.with(["--memory", "16M,pages=2M", "--memory-max", "32M"]).run();
    assert_eq!(exit.status, 2);
    assert!(exit.errors.contains("reserved pages cannot be given back"), "{}", exit.errors);
}
