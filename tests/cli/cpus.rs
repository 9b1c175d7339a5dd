//! Processors, woken as a kernel wakes them: INIT and start-up messages through the local APIC.

use harness::{Guest, Purlin, guest};

use crate::{LIMIT, Machine, wait_until};

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

#[test]
fn devices_are_served_by_as_many_threads_as_the_flag_says() {
    let Some(machine) = Machine::new(&Guest::says("ready").then(guest::SPIN)) else { return };
    for (flags, expected) in [(&[][..], vec!["io0"]), (&["3"], vec!["io0", "io1", "io2"])] {
        let flags = flags.iter().flat_map(|count| ["--io-threads", *count]);
        let mut command = machine.command();
        let mut purlin = Purlin::spawn(command.args(flags));
        purlin.expect("ready", LIMIT);
        let threads = || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", purlin.id())).unwrap();
            let name = |task: std::io::Result<std::fs::DirEntry>| {
                std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
            };
            let mut names: Vec<String> = tasks.map(name).map(|name| name.trim().into()).collect();
            names.retain(|name| name.starts_with("io"));
            names.sort();
            names
        };
        wait_until("its threads are there", || threads() == expected);
    }
}
