//! The tests that need a CPU with virtualization: natively, or under `with-kvm`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{PEERS, TOPIC, binaries, guests};
use crate::{
    apt,
    error::{AtPath, Error, Result},
    with_kvm::{self, Host},
    workspace::{Workspace, complain, say},
};

/// The tests, by the name of their target.
const TARGETS: [&str; 5] = ["kvm", "demo", "devices", "cli", "linux"];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    apt::ensure(TOPIC, PEERS)?;
    let guests = guests::prepare(workspace)?;
    let purlin = binaries::purlin(workspace)?;
    let build = ["test", "--workspace", "--all-features", "--no-run", "--tests", "--examples"];
    let mut tests = binaries::build(workspace, &build)?;
    tests.retain(|(name, _)| TARGETS.contains(&name.as_str()));
    let script = workspace.cache().join("linux-tests.sh");
    fs::write(&script, text(&guests, &purlin, &tests)).at("write", &script)?;

    match Host::detect() {
        Host::Native => say(TOPIC, "this CPU has VMX or SVM: stock kernels run natively"),
        _ => say(TOPIC, "this CPU has no VMX or SVM: stock kernels run under xtask with-kvm"),
    }
    let command = vec!["sh".into(), script.into_os_string()];
    let code = attempt(workspace, &with_kvm::Options::for_command(command), ATTEMPTS)?;
    if code == ExitCode::SUCCESS {
        return Ok(());
    }
    Err(Error::new("the tests on virtualization hardware failed"))
}

/// How often the outer guest may die. Emulated nested virtualization now and then crashes its kernel;
/// a test that fails is never run again.
const ATTEMPTS: u32 = 6;

fn attempt(workspace: &Workspace, options: &with_kvm::Options, attempts: u32) -> Result<ExitCode> {
    match with_kvm::main(workspace, options) {
        Err(error) if attempts > 1 => {
            complain(&error);
            say(TOPIC, "the outer guest died, which is no verdict on a test: once more");
            attempt(workspace, options, attempts - 1)
        }
        result => result,
    }
}

/// Runs every test binary, also after one has failed, in two lanes of one CPU each. Under `with-kvm`,
/// where CPUs are emulated, a kernel that rewrites its own code on one CPU can crash on another; no
/// guest therefore runs on two.
fn text(guests: &Path, purlin: &Path, tests: &[(String, PathBuf)]) -> String {
    let mut text = format!(
        "export REQUIRE_KVM=1 REQUIRE_LINUX=1\nexport PURLIN_LINUX={guests:?} PURLIN_BIN={purlin:?}\n\
         {RUN}"
    );
    for lane in 0..2 {
        text.push_str(&format!("lane{lane}() {{\n:\n"));
        for (name, path) in tests {
            if let Some(arguments) = arguments(name, lane) {
                text.push_str(&format!("run {lane} {path:?} {arguments}\n"));
            }
        }
        text.push_str("}\n");
    }
    text.push_str("lane0 &\nlane1 &\nwait\n[ ! -e \"$failed/it\" ]\n");
    text
}

/// How a test binary is run in a lane, if it is: the stock kernels are halved, the tests of the binary
/// are in the lane that has less of them.
fn arguments(name: &str, lane: usize) -> Option<String> {
    match (name, lane) {
        ("linux", 0) => Some(FIRST_HALF.join(" ")),
        ("linux", _) => Some(FIRST_HALF.map(|name| format!("--skip {name}")).join(" ")),
        // Exits as fast as a guest can make them corrupt the stack of an emulated outer kernel. The
        // unit tier floods this machine's own KVM.
        ("cli", lane) => {
            let skip = if Host::detect() == Host::Native { "" } else { "--skip flood::" };
            (lane == 0).then(|| skip.to_owned())
        }
        (_, lane) => (lane == 1).then(String::new),
    }
}

/// The modules of the Linux tests that go with the tests of the binary; together they take about as long
/// as the others.
const FIRST_HALF: [&str; 6] = ["all::", "balloon::", "boot::", "memtest::", "net::", "pmem::"];

/// `run LANE BINARY ARGUMENTS...`, its output marked with the lane.
const RUN: &str = r#"failed=$(mktemp -d)
run() {
    cpu=$1
    shift
    { taskset -c "$cpu" "$@" --test-threads=1 2>&1 || : >"$failed/it"; } | sed -u "s/^/lane $cpu: /"
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_runs_in_a_lane_and_the_stock_kernels_in_both() {
        for target in TARGETS {
            let lanes = (0..2).filter(|lane| arguments(target, *lane).is_some()).count();
            assert_eq!(lanes, if target == "linux" { 2 } else { 1 }, "{target}");
        }
    }

    #[test]
    fn a_failure_in_either_lane_is_the_script_s() {
        let tests = [("cli".to_owned(), PathBuf::from("/bin/false"))];
        let script = text(Path::new("/k"), Path::new("/p"), &tests);
        let status =
            std::process::Command::new("sh").args(["-c", &script]).output().unwrap().status;
        assert!(!status.success());
        let tests = [("cli".to_owned(), PathBuf::from("/bin/true"))];
        let script = text(Path::new("/k"), Path::new("/p"), &tests);
        let status =
            std::process::Command::new("sh").args(["-c", &script]).output().unwrap().status;
        assert!(status.success());
    }
}
