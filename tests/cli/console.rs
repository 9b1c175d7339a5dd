//! Ports of the virtio console, and the terminal with one.
//!
//! These guests have no driver for it; `tests/linux` has one.

use harness::{Guest, Pty, guest};

use crate::{LIMIT, Machine};

fn hello() -> Guest {
    Guest::says("hello").then(guest::POWER_OFF).then(guest::SPIN)
}

fn refused(arguments: &[&str]) -> Option<String> {
    let exit = Machine::new(&hello())?.with(arguments).run();
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    Some(exit.errors)
}

#[test]
fn a_machine_with_console_ports_runs_on_either_bus() {
    for bus in ["mmio", "pci"] {
        let Some(machine) = Machine::new(&hello()) else { return };
        let socket = format!("unix:{},name=agent", machine.scratch.path("agent").display());
        let arguments = ["--bus", bus, "--console", "none", "--console", "pty"];
        let exit = machine.with(arguments).with(["--console", &socket]).run();
        assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
        assert!(exit.errors.starts_with("purlin: the second console is /dev/"), "{}", exit.errors);
    }
}

#[test]
fn ports_are_read_from_a_file_in_both_spellings() {
    let Some(machine) = Machine::new(&hello()) else { return };
    let toml = "kernel = 'kernel'\nmemory = '16M'\n\
                console = ['file:out', { target = 'append:more', name = 'log' }]";
    let toml = machine.scratch.file("vm.toml", toml.as_bytes());
    let exit = harness::Purlin::start(["run", toml.to_str().unwrap()]).wait(LIMIT);
    assert_eq!((exit.status, exit.output.as_str()), (0, "hello"), "{}", exit.errors);
    assert!(machine.scratch.path("out").exists() && machine.scratch.path("more").exists());
}

#[test]
fn one_end_for_two_ports_is_refused_with_both() {
    let Some(error) = refused(&["--console", "stdio"]) else { return };
    assert!(error.contains("com1 and console are both on stdio"), "{error}");
    let twice = ["--console", "unix:s", "--console", "unix:./s,name=a"];
    let error = refused(&twice).unwrap();
    assert!(error.contains("console and the second console are both on unix:./s"), "{error}");
}

#[test]
fn what_cannot_be_a_port_is_refused_with_what_is_right() {
    let cases: [(&[&str], &str); 5] = [
        (&["--console", "tty0"], "\"tty0\" is no target; one is none, stdio, pty"),
        (&["--console", "pty,nam=a"], "did you mean `name`?"),
        (&["--console", "pty,name=a/b"], "`a/b` cannot name a port"),
        (&["--console", "pty,name=a", "--console", "pty,name=a"], "two ports are named `a`"),
        (&["--console", "unix:/no/such/place/s"], "console cannot be connected to unix:/no"),
    ];
    for (arguments, expected) in cases {
        let Some(machine) = Machine::new(&hello()) else { return };
        let exit = machine.with(arguments.iter().copied()).run();
        assert_eq!(exit.status, 2, "{}", exit.errors);
        assert!(exit.errors.contains(expected), "{} has no {expected}", exit.errors);
    }
}

#[test]
fn the_keys_for_the_vmm_work_for_a_guest_that_does_not_read_its_console() {
    let Some(machine) = Machine::new(&Guest::says("ready").then(guest::SPIN)) else { return };
    let out = machine.scratch.path("out");
    let serial = format!("file:{}", out.display());
    let machine = machine.with(["--serial", &serial, "--console", "stdio"]);
    let mut pty = Pty::open();
    let shell = pty.run(machine.all_arguments());
    crate::wait_until("the guest runs", || std::fs::read(&out).is_ok_and(|text| text == b"ready"));
    pty.type_in(b"typed in vain\x01x");
    let exit = shell.wait(LIMIT);
    assert_eq!(exit.status, 14, "{}", exit.output);
}
