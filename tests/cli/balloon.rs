//! The memory balloon and the source of random numbers, as the command line gives them.

use harness::{Guest, guest};

use crate::Machine;

fn run(arguments: &[&str]) -> Option<harness::Exit> {
    let guest = Guest::says("hello").then(guest::POWER_OFF).then(guest::SPIN);
    Some(Machine::new(&guest)?.with(arguments).run())
}

#[test]
fn a_machine_with_a_balloon_runs_on_either_bus() {
    let all = "8M,deflate-on-oom=on,free-page-reporting=on,statistics=1";
    for arguments in [
        ["--bus", "mmio", "--balloon", "on"],
        ["--bus", "pci", "--balloon", all],
        ["--rng", "/dev/urandom,bytes-per-sec=1K", "--balloon", all],
    ] {
        let Some(exit) = run(&arguments) else { return };
        assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_is_right() {
    for (flag, value, expected) in [
        (
            "--balloon",
            "16M",
            "a balloon of 16M in a machine with memory of 16M; it must be smaller",
        ),
        ("--balloon", "off", "\"off\" is no size"),
        ("--balloon", "on,deflate-on-mom=on", "did you mean `deflate-on-oom`?"),
        ("--balloon", "on,statistics=often", "\"often\" is not right; this is a whole number"),
        (
            "--rng",
            "/no/such/source",
            "the source of random numbers /no/such/source cannot be opened",
        ),
        ("--rng", "/dev/urandom,bytes-per-sec=0", "a rate of 0"),
        ("--rng", "/dev/urandom,bytes=1", "unknown key `bytes`"),
    ] {
        let Some(exit) = run(&[flag, value]) else { return };
        assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
        assert!(exit.errors.contains(expected), "{} has no {expected}", exit.errors);
    }
}
