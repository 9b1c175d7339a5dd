//! What the end-to-end tests share: the `purlin` binary as a child process, and what the machine
//! that runs the tests can do.
//!
//! `cargo xtask test` builds the binary, fetches kernels, and passes both in the environment.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "tests are told by the environment what to test")]
#![expect(clippy::panic, clippy::expect_used, clippy::print_stderr, reason = "test code")]

pub mod guest;
mod image;
mod pty;
mod purlin;

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub use guest::Guest;
pub use image::qcow2;

pub use pty::{Pty, child_of};
pub use purlin::{Exit, Purlin, send};

/// The binary under test: `PURLIN_BIN`, or the one that cargo built beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("PURLIN_BIN") {
        return path.into();
    }
    let binary = profile().join("purlin");
    assert!(binary.exists(), "{} is not built: cargo build --bin purlin", binary.display());
    binary
}

/// The example `name` of the VMM: beside the binary under test, or beside the tests.
pub fn example(name: &str) -> PathBuf {
    let beside_binary = binary().parent().map(Path::to_owned).unwrap_or_default();
    let places = [beside_binary, profile()].map(|profile| profile.join("examples").join(name));
    let built = places.iter().find(|path| path.exists());
    let missing = || panic!("neither {places:?} is built: cargo build --example {name}");
    built.unwrap_or_else(missing).clone()
}

/// Where cargo put what it built with the tests.
fn profile() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("test binaries are in PROFILE/deps").to_owned()
}

/// Whether /dev/kvm can be used. If not, the skipped test says so, and fails where `REQUIRE_KVM` is
/// set.
pub fn has_kvm(test: &str) -> bool {
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    let Err(error) = opened else { return true };
    skip(test, "REQUIRE_KVM", &format!("/dev/kvm cannot be opened ({error})"))
}

/// Where the stock kernels are (`PURLIN_LINUX`), if they can run here. If not, the skipped test says
/// so, and fails where `REQUIRE_LINUX` is set.
pub fn linux(test: &str) -> Option<PathBuf> {
    let Some(directory) = env::var_os("PURLIN_LINUX") else {
        skip(test, "REQUIRE_LINUX", "no stock kernels (cargo xtask test fetches them)");
        return None;
    };
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    if !hardware {
        skip(test, "REQUIRE_LINUX", "the CPU has no VMX or SVM (cargo xtask with-kvm has)");
        return None;
    }
    has_kvm(test).then(|| directory.into())
}

/// Says that `test` is skipped, which this machine cannot run.
pub fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}

/// Says that `test` of the Linux tier is skipped, unless this machine is said to have what it needs.
///
/// # Panics
/// `REQUIRE_LINUX` is set.
pub fn linux_lacks(test: &str, why: &str) {
    skip(test, "REQUIRE_LINUX", why);
}

fn skip(test: &str, variable: &str, why: &str) -> bool {
    assert!(env::var_os(variable).is_none(), "{test} cannot run, and {variable} is set: {why}");
    skipped(test, why);
    false
}

/// A file or directory of a test's own, below the system's temporary directory; removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A fresh empty directory. `name` says what for.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(format!("purlin-test-{name}-{process}-{number}"));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    /// The path of `name` in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes `bytes` to the file `name`, and returns its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the temporary directory is writable");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
