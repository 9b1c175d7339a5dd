//! The file and the flags say the same.

use harness::{Exit, Guest, Purlin, guest};

use crate::{LIMIT, Machine};

/// A guest that prints its command line, uses the byte at 20 MiB, and says where it is.
fn guest() -> Guest {
    let tell = Guest::default().then(guest::CMDLINE).uses(20 << 20);
    tell.prints(guest::COM2, "second").wakes(1).then(guest::RESET).then(guest::SPIN)
}

/// `purlin run vm.toml FLAGS`, with `text` in the file beside the kernel.
fn run(machine: &Machine, text: &str, flags: &[&str]) -> Exit {
    let file = machine.scratch.file("vm.toml", text.as_bytes());
    let file = file.to_str().unwrap();
    Purlin::start(["run", file].iter().chain(flags)).wait(LIMIT)
}

const TABLES: &str = "
kernel = 'kernel'
cmdline = 'told by the user'
on-reset = 'exit'
[memory]
size = '32M'
backing = 'shared'
[cpus]
count = 2
[serial]
com1 = 'stdio'
com2 = 'file:second'
";

const LISTS: &str = "
kernel = 'kernel'
cmdline = 'told by the user'
memory = '32M,backing=shared'
cpus = 2
serial = 'com2=file:second'
";

#[test]
fn tables_lists_and_flags_make_the_same_machine() {
    let Some(machine) = Machine::new(&guest()) else { return };
    let second = machine.scratch.path("second");
    let mut outputs = Vec::new();
    for text in [TABLES, LISTS] {
        let exit = run(&machine, text, &[]);
        assert_eq!(exit.status, 6, "{}", exit.errors);
        assert_eq!(std::fs::read_to_string(&second).unwrap(), "second");
        std::fs::remove_file(&second).unwrap();
        outputs.push(exit.output);
    }
    let serial = format!("com2=file:{}", second.display());
    let machine = machine.with(["--memory", "32M,backing=shared", "--cpus", "2"]);
    let machine = machine.with(["--cmdline", "told by the user", "--serial", &serial]);
    let exit = machine.run();
    assert_eq!(exit.status, 6, "{}", exit.errors);
    outputs.push(exit.output);
    assert!(outputs[0].starts_with("told by the user"), "{outputs:?}");
    assert!(outputs[0].ends_with("02"), "{outputs:?}");
    assert!(outputs.iter().all(|output| *output == outputs[0]), "{outputs:?}");
}

#[test]
fn a_flag_overrides_the_file_under_its_key_alone() {
    let Some(machine) = Machine::new(&guest()) else { return };
    // Without RAM at 20 MiB the guest ends by its own code.
    let exit = run(&machine, TABLES, &["--memory", "16M"]);
    assert_eq!(exit.status, i32::from(guest::LOST) * 2 + 1, "{}", exit.errors);
    let exit = run(&machine, TABLES, &["--cmdline", "told by the flag"]);
    assert_eq!(exit.status, 6, "{}", exit.errors);
    assert!(exit.output.starts_with("told by the flag"), "{}", exit.output);
}

#[test]
fn the_default_command_line_is_the_console() {
    let guest = Guest::default().then(guest::CMDLINE).then(guest::POWER_OFF);
    let Some(machine) = Machine::new(&guest) else { return };
    let exit = machine.run();
    assert!(exit.output.starts_with("console=ttyS0"), "{}", exit.output);
}
