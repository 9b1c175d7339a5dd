//! The tests that need a CPU with virtualization: natively, or under `with-kvm`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{TOPIC, binaries, guests};
use crate::{
    error::{AtPath, Error, Result},
    with_kvm::{self, Host},
    workspace::{Workspace, complain, say},
};

/// The tests, by the name of their target.
const TARGETS: [&str; 5] = ["kvm", "demo", "devices", "cli", "linux"];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let guests = guests::prepare(workspace)?;
    let purlin = binaries::purlin(workspace)?;
    let build = ["test", "--workspace", "--all-features", "--no-run", "--tests"];
    let mut tests = binaries::build(workspace, &build)?;
    tests.retain(|(name, _)| TARGETS.contains(&name.as_str()));
    let script = workspace.cache().join("linux-tests.sh");
    fs::write(&script, text(&guests, &purlin, &tests)).at("write", &script)?;

    match Host::detect() {
        Host::Native => say(TOPIC, "this CPU has VMX or SVM: stock kernels run natively"),
        _ => say(TOPIC, "this CPU has no VMX or SVM: stock kernels run under xtask with-kvm"),
    }
    let command = vec!["sh".into(), script.into_os_string()];
    let options = with_kvm::Options::for_command(command);
    let code = with_kvm::main(workspace, &options).or_else(|error| {
        // Not a verdict on the tests: the emulated machine under them died.
        complain(&error);
        say(TOPIC, "the outer guest failed, not a test: once more");
        with_kvm::main(workspace, &options)
    })?;
    if code == ExitCode::SUCCESS {
        return Ok(());
    }
    Err(Error::new("the tests on virtualization hardware failed"))
}

/// Runs every test binary, also after one has failed. The stock kernels are booted in two halves, each
/// on one CPU: under `with-kvm`, where CPUs are emulated, a kernel that rewrites its own code on one
/// CPU can crash on another.
fn text(guests: &Path, purlin: &Path, tests: &[(String, PathBuf)]) -> String {
    let mut text = format!(
        "export REQUIRE_KVM=1 REQUIRE_LINUX=1\nexport PURLIN_LINUX={guests:?} PURLIN_BIN={purlin:?}\n\
         status=0\n{HALF}"
    );
    for (name, path) in tests {
        text.push_str(&format!("echo '--- {name}'\n"));
        if name == "linux" {
            let filters = FIRST_HALF.join(" ");
            let skips: String = FIRST_HALF.iter().map(|name| format!(" --skip {name}")).collect();
            text.push_str(&format!(
                "half 0 {path:?} {filters} &\nhalf 1 {path:?}{skips} &\nwait\n"
            ));
            text.push_str("for half in 0 1; do [ \"$(cat $out/$half)\" = 0 ] || status=1; done\n");
        } else {
            text.push_str(&format!("{path:?} --test-threads=2 || status=1\n"));
        }
    }
    text.push_str("exit $status\n");
    text
}

/// The modules of the Linux tests that make about half of the work.
const FIRST_HALF: [&str; 3] = ["boot::", "cpus::", "memtest::"];

const HALF: &str = r#"out=$(mktemp -d)
half() {
    cpu=$1
    shift
    { taskset -c "$cpu" "$@" --test-threads=1 2>&1; echo $? >"$out/$cpu"; } | sed -u "s/^/half $cpu: /"
}
"#;
