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

/// What runs in one outer guest: a lane for each of two CPUs, one test at a time in each.
///
/// Emulated nested virtualization does not live for ever (see [`ATTEMPTS`]), so the tests are cut into
/// shares that take minutes. Tests with more than a console and a disk are alone: with another guest
/// beside them, guests crash before their first line, and the outer kernel with them.
struct Share {
    lanes: [&'static [Run]; 2],
}

/// A test binary, and which of its tests.
struct Run {
    target: &'static str,
    /// Beginnings of names; all tests if there is none.
    tests: &'static [&'static str],
}

const fn run_of(target: &'static str, tests: &'static [&'static str]) -> Run {
    Run { target, tests }
}

const SHARES: [Share; 4] = [
    Share {
        lanes: [
            &[run_of("linux", &["boot::", "memtest::"]), run_of("cli", &[])],
            &[
                run_of("kvm", &[]),
                run_of("demo", &[]),
                run_of("devices", &[]),
                run_of("linux", &["clock::", "console::", "cpus::", "disk::", "end::", "memory::"]),
            ],
        ],
    },
    Share { lanes: [&[run_of("linux", &["all::", "hotplug::", "hvc::", "intx::", "net::"])], &[]] },
    Share { lanes: [&[run_of("linux", &["blk::", "fs::", "vhost::", "vsock::"])], &[]] },
    Share { lanes: [&[run_of("linux", &["balloon::", "hotmem::", "pmem::"])], &[]] },
];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    apt::ensure(TOPIC, PEERS)?;
    let guests = guests::prepare(workspace)?;
    let purlin = binaries::purlin(workspace)?;
    let build = ["test", "--workspace", "--all-features", "--no-run", "--tests", "--examples"];
    let tests = binaries::build(workspace, &build)?;
    match Host::detect() {
        Host::Native => say(TOPIC, "this CPU has VMX or SVM: stock kernels run natively"),
        _ => say(TOPIC, "this CPU has no VMX or SVM: stock kernels run under xtask with-kvm"),
    }
    let mut failed = false;
    for (number, share) in (1..).zip(&SHARES) {
        say(TOPIC, &format!("share {number} of {}", SHARES.len()));
        let script = workspace.cache().join(format!("linux-tests-{number}.sh"));
        fs::write(&script, text((&guests, &purlin), share, &tests)).at("write", &script)?;
        let command = vec!["sh".into(), script.into_os_string()];
        let options = with_kvm::Options::for_command(command);
        failed |= attempt(workspace, &options, ATTEMPTS)? != ExitCode::SUCCESS;
    }
    if failed {
        return Err(Error::new("the tests on virtualization hardware failed"));
    }
    Ok(())
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

/// Runs every test of a share, also after one has failed, each lane on one CPU. Under `with-kvm`, where
/// CPUs are emulated, a kernel that rewrites its own code on one CPU can crash on another; no guest
/// therefore runs on two.
fn text((guests, purlin): (&Path, &Path), share: &Share, tests: &[(String, PathBuf)]) -> String {
    let mut text = format!(
        "export REQUIRE_KVM=1 REQUIRE_LINUX=1\nexport PURLIN_LINUX={guests:?} PURLIN_BIN={purlin:?}\n\
         {RUN}"
    );
    for (lane, runs) in share.lanes.iter().enumerate() {
        text.push_str(&format!("lane{lane}() {{\n:\n"));
        for run in *runs {
            let binaries = tests.iter().filter(|(name, _)| name == run.target);
            for (_, path) in binaries {
                let arguments = run.arguments();
                text.push_str(&format!("run {lane} {path:?} {arguments}\n"));
            }
        }
        text.push_str("}\n");
    }
    text.push_str("lane0 &\nlane1 &\nwait\n[ ! -e \"$failed/it\" ]\n");
    text
}

impl Run {
    fn arguments(&self) -> String {
        // Exits as fast as a guest can make them corrupt the stack of an emulated outer kernel. The
        // unit tier floods this machine's own KVM.
        if self.target == "cli" && Host::detect() != Host::Native {
            return "--skip flood::".to_owned();
        }
        self.tests.join(" ")
    }
}

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

    fn runs() -> impl Iterator<Item = &'static Run> {
        SHARES.iter().flat_map(|share| share.lanes).flatten()
    }

    #[test]
    fn every_test_of_a_stock_kernel_runs_once() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/linux");
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let source = read("main.rs");
        let modules = source
            .lines()
            .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
            .filter(|module| read(&format!("{module}.rs")).contains("#[test]"));
        for module in modules {
            let name = format!("{module}::");
            let times = runs().filter(|run| run.tests.contains(&name.as_str())).count();
            assert_eq!(times, 1, "{module}");
        }
    }

    #[test]
    fn every_other_binary_runs_whole() {
        for target in ["kvm", "demo", "devices", "cli"] {
            let mut runs = runs().filter(|run| run.target == target);
            assert!(runs.next().is_some_and(|run| run.tests.is_empty()), "{target}");
            assert!(runs.next().is_none(), "{target}");
        }
    }

    #[test]
    fn a_failure_in_either_lane_is_the_script_s() {
        let tests = [("cli".to_owned(), PathBuf::from("/bin/false"))];
        let script = text((Path::new("/k"), Path::new("/p")), &SHARES[0], &tests);
        let status =
            std::process::Command::new("sh").args(["-c", &script]).output().unwrap().status;
        assert!(!status.success());
        let tests = [("cli".to_owned(), PathBuf::from("/bin/true"))];
        let script = text((Path::new("/k"), Path::new("/p")), &SHARES[0], &tests);
        let status =
            std::process::Command::new("sh").args(["-c", &script]).output().unwrap().status;
        assert!(status.success());
    }
}
