//! The binary as a user meets it, with guests of a few instructions; needs any /dev/kvm.
//!
//! `cargo test` runs these on the host's KVM, `cargo xtask test` also under real virtualization.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod balloon;
mod config;
mod console;
mod cpus;
mod disk;
mod end;
mod example;
mod flood;
mod fs;
mod host;
mod kernel;
mod memory;
mod memory_max;
mod net;
mod pmem;
mod refusal;
mod serial;
mod signals;
mod terminal;
mod vhost_user;
mod vsock;

use std::{ffi::OsString, path::PathBuf, process::Command, thread, time::Duration};

use harness::{Exit, Guest, Purlin, Scratch, has_kvm};

/// Enough for anything here, also where KVM and its processors are emulated.
const LIMIT: Duration = Duration::from_secs(120);

/// A machine that runs a guest, and the files of its test.
struct Machine {
    scratch: Scratch,
    kernel: PathBuf,
    arguments: Vec<OsString>,
}

impl Machine {
    /// A machine with `guest` and 16 MiB; `None` where there is no KVM.
    fn new(guest: &Guest) -> Option<Self> {
        if !has_kvm(&test_name()) {
            return None;
        }
        let scratch = Scratch::new("cli");
        let kernel = guest.file(&scratch);
        Some(Self { scratch, kernel, arguments: Vec::new() })
    }

    fn with<S: Into<OsString>>(mut self, more: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(more.into_iter().map(Into::into));
        self
    }

    fn all_arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["run".into(), "--kernel".into()];
        all.push(self.kernel.clone().into());
        if !self.arguments.iter().any(|argument| argument == "--memory") {
            all.extend(["--memory".into(), "16M".into()]);
        }
        all.extend(self.arguments.iter().cloned());
        all
    }

    fn command(&self) -> Command {
        let mut command = Command::new(harness::binary());
        command.args(self.all_arguments());
        command
    }

    fn start(&self) -> Purlin {
        Purlin::spawn(&mut self.command())
    }

    fn run(&self) -> Exit {
        self.start().wait(LIMIT)
    }
}

/// The test that this thread runs.
fn test_name() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

/// Waits until `condition` holds.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + LIMIT;
    while !condition() {
        assert!(std::time::Instant::now() < end, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
