//! Flags and files that ask for what cannot be. None of these needs a KVM.

use harness::{Exit, Purlin, Scratch};

use crate::LIMIT;

fn run(arguments: &[&str]) -> Exit {
    Purlin::start(["run"].iter().chain(arguments)).wait(LIMIT)
}

/// `purlin run --kernel x FLAG VALUE` must be refused with each of `parts`.
fn refused(flag: &str, value: &str, parts: &[&str]) {
    let exit = run(&["--kernel", "x", flag, value]);
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{flag} {value}: {}", exit.errors);
    for part in parts {
        assert!(exit.errors.contains(part), "{flag} {value}: {part:?} is not in {}", exit.errors);
    }
}

#[test]
fn memory_that_cannot_be_is_refused_with_what_can() {
    refused("--memory", "0", &["memory of 0B", "at least 2M"]);
    refused("--memory", "4097K", &["memory of 4097K", "multiple of 4K"]);
    refused("--memory", "33M,pages=2M", &["memory of 33M", "multiple of 2M"]);
    refused("--memory", "100T", &["109951162777600 bytes of RAM", "at most"]);
    refused("--memory", "20T", &["memory of 20T is more than the ", "this host has"]);
    refused("--memory", "many", &["many", "512M"]);
    refused("--memory", "1G,pages=4M", &["4M"]);
}

#[test]
fn processors_that_cannot_be_are_refused_with_what_can() {
    refused("--cpus", "0", &["0 CPUs; a machine has 1 to 64"]);
    refused("--cpus", "65", &["65 CPUs; a machine has 1 to 64"]);
    refused("--cpus", "-1", &["-1"]);
    refused("--cpus", "4,threads=3", &["4 CPUs cannot be 3 threads"]);
    refused("--cpus", "4,thread=2", &["did you mean `threads`?"]);
}

#[test]
fn ports_that_share_an_end_are_refused_by_name() {
    refused("--serial", "stdio,com2=stdio", &["com1 and com2 are both on stdio"]);
    refused("--serial", "com2=pty,com5=pty", &["did you mean `com"]);
    refused("--serial", "tcp:1", &["\"tcp:1\" is no target; one is none, stdio"]);
    refused("--debug-console", "stdio", &["com1 and debug-console are both on stdio"]);
}

#[test]
fn an_unknown_flag_is_answered_with_the_nearest() {
    refused("--memroy", "1G", &["--memroy", "--memory"]);
    refused("--on-reset", "halt", &["halt", "exit", "reboot"]);
}

#[test]
fn an_unknown_key_is_answered_with_file_line_and_nearest() {
    let scratch = Scratch::new("refusal");
    for (text, line, told) in [
        ("kernel = 'x'\nmemroy = '1G'\n", 2, "unknown key `memroy`; did you mean `memory`?"),
        ("kernel = 'x'\n\n[cpus]\ncuont = 1\n", 4, "did you mean `count`?"),
        ("kernel = 'x'\non-reset = 'rebot'\n", 2, "did you mean `reboot`?"),
        ("kernel = 'x'\nkernel = 'y'\n", 2, "duplicate key"),
        ("kernel 'x'\n", 1, ""),
    ] {
        let path = scratch.file("vm.toml", text.as_bytes());
        let path = path.to_str().unwrap();
        let exit = run(&[path]);
        assert_eq!(exit.status, 2, "{}", exit.errors);
        let place = format!("purlin: error: {path}, line {line}: ");
        assert!(exit.errors.starts_with(&place), "{}", exit.errors);
        assert!(exit.errors.contains(told), "{}", exit.errors);
    }
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    let exit = run(&["/nonexistent/vm.toml"]);
    assert_eq!(exit.status, 2);
    assert!(exit.errors.contains("/nonexistent/vm.toml"), "{}", exit.errors);
}
