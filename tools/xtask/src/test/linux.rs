//! The tests that need a CPU with virtualization: natively, or under `with-kvm`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use super::{PEERS, TOPIC, binaries, guests, lanes};
use crate::{
    apt,
    error::{AtPath, Context, Error, Result},
    with_kvm::{self, Host},
    workspace::{Workspace, say},
};

/// What runs in one outer guest, one test at a time.
struct Share {
    name: &'static str,
    runs: &'static [Run],
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

/// The longest first: the last to end then ends soonest.
const SHARES: [Share; 5] = [
    Share {
        name: "net",
        runs: &[run_of("linux", &["all::", "hotplug::", "hvc::", "intx::", "net::"])],
    },
    Share { name: "disk", runs: &[run_of("linux", &["blk::", "fs::", "vhost::", "vsock::"])] },
    Share { name: "cli", runs: &[run_of("linux", &["boot::", "memtest::"]), run_of("cli", &[])] },
    Share {
        name: "kvm",
        runs: &[
            run_of("kvm", &[]),
            run_of("demo", &[]),
            run_of("devices", &[]),
            run_of("linux", &["clock::", "console::", "cpus::", "disk::", "end::", "memory::"]),
        ],
    },
    Share { name: "memory", runs: &[run_of("linux", &["balloon::", "hotmem::", "pmem::"])] },
];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    apt::ensure(TOPIC, PEERS)?;
    let guests = guests::prepare(workspace)?;
    let purlin = binaries::purlin(workspace)?;
    let build = ["test", "--workspace", "--all-features", "--no-run", "--tests", "--examples"];
    let tests = binaries::build(workspace, &build)?;
    let passed = lanes::each(&SHARES, at_once()?, |share| {
        let script = workspace.cache().join(format!("linux-tests-{}.sh", share.name));
        fs::write(&script, text((&guests, &purlin), share, &tests)).at("write", &script)?;
        attempt(share.name, &script, ATTEMPTS)
    });
    let mut failed = Vec::new();
    for (share, passed) in SHARES.iter().zip(passed) {
        if !passed? {
            failed.push(share.name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("tests failed in these shares: {}", failed.join(", "))))
}

/// How many outer guests run beside each other: each has one emulated CPU, and keeps one of this
/// machine's busy. On the machine's own KVM nothing is won, and nothing may disturb anything.
fn at_once() -> Result<usize> {
    if Host::detect() == Host::Native {
        say(TOPIC, "this CPU has VMX or SVM: stock kernels run natively");
        return Ok(1);
    }
    say(TOPIC, "this CPU has no VMX or SVM: stock kernels run under xtask with-kvm");
    // Here, because installing is not for two at a time.
    with_kvm::ensure()?;
    Ok(thread::available_parallelism().map_or(1, usize::from).min(2))
}

/// How often an outer guest may die. A test that fails is never run again.
const ATTEMPTS: u32 = 3;

/// Runs a share: whether all its tests passed.
fn attempt(name: &str, script: &Path, attempts: u32) -> Result<bool> {
    let own = env::current_exe().context(|| "cannot tell this program's own path".to_owned())?;
    // It ends what it has started when this process is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(own).args(["with-kvm", "--", "sh"]).arg(script);
    let status = lanes::labelled(name, command)?;
    if status.code() == Some(with_kvm::OWN_FAILURE.into()) && attempts > 1 {
        say(
            TOPIC,
            &format!("the outer guest of {name} died, which is no verdict on a test: once more"),
        );
        return attempt(name, script, attempts - 1);
    }
    Ok(status.success())
}

/// Runs every test of a share, also after one has failed.
fn text((guests, purlin): (&Path, &Path), share: &Share, tests: &[(String, PathBuf)]) -> String {
    let mut text = format!(
        "export REQUIRE_KVM=1 REQUIRE_LINUX=1\nexport PURLIN_LINUX={guests:?} PURLIN_BIN={purlin:?}\n\
         status=0\n"
    );
    for run in share.runs {
        let binaries = tests.iter().filter(|(name, _)| name == run.target);
        for (_, path) in binaries {
            let tests = run.tests.join(" ");
            text.push_str(&format!("{path:?} --test-threads=1 {tests} || status=1\n"));
        }
    }
    text.push_str("exit $status\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> impl Iterator<Item = &'static Run> {
        SHARES.iter().flat_map(|share| share.runs)
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
    fn a_failure_is_the_script_s_and_the_rest_runs_all_the_same() {
        const SHARE: Share = Share { name: "x", runs: &[run_of("cli", &[])] };
        let status = |tests: &[&str]| {
            let tests: Vec<_> =
                tests.iter().map(|t| ("cli".to_owned(), PathBuf::from(t))).collect();
            let script = text((Path::new("/k"), Path::new("/p")), &SHARE, &tests);
            Command::new("sh").args(["-c", &script]).output().unwrap().status.code()
        };
        assert_eq!(status(&["/bin/false", "/bin/true"]), Some(1));
        assert_eq!(status(&["/bin/true"]), Some(0));
    }
}
