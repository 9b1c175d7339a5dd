//! Stock Debian kernels, booted by the binary: what only a real guest can show.
//!
//! `cargo xtask test` runs these natively where the CPU has VMX or SVM, else under
//! `cargo xtask with-kvm`. Kernels and the initramfs come from `PURLIN_LINUX`; what runs inside the
//! guest is in `guest/`.
#![expect(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod all;
mod balloon;
mod blk;
mod boot;
mod clock;
mod console;
mod cpus;
mod disk;
mod end;
mod fs;
mod hotmem;
mod hotplug;
mod hvc;
mod inside;
mod intx;
mod memory;
mod memtest;
mod net;
mod pmem;
mod vhost;
mod vsock;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use harness::{Exit, Purlin, linux};

/// Enough for a kernel under a nested, emulated KVM.
const BOOT: Duration = Duration::from_secs(240);

/// One boot of the test guest.
struct Guest {
    directory: PathBuf,
    flavour: &'static str,
    image: &'static str,
    arguments: Vec<OsString>,
    cmdline: String,
}

impl Guest {
    /// The cloud kernel's bzImage, which will run `guest/SCRIPT.sh`; `None` where it cannot run.
    fn new(test: &str, script: &str) -> Option<Self> {
        let directory = linux(test)?;
        let cmdline = format!("console=ttyS0 quiet panic=-1 purlin.test={script}");
        let arguments = Vec::new();
        Some(Self { directory, flavour: "cloud", image: "bzImage", arguments, cmdline })
    }

    fn generic(mut self) -> Self {
        self.flavour = "generic";
        self
    }

    fn elf(mut self) -> Self {
        self.image = "vmlinux";
        self
    }

    /// With the disk of Debian's programs, which the guest's init puts into its path.
    fn programs(self) -> Self {
        let disk = self.directory.join("programs.img");
        let disk = format!("{},read-only=on,id=programs", disk.display());
        self.arguments(["--disk", &disk])
    }

    fn arguments<S: Into<OsString>>(mut self, more: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(more.into_iter().map(Into::into));
        self
    }

    fn cmdline(mut self, more: &str) -> Self {
        self.cmdline = format!("{} {more}", self.cmdline);
        self
    }

    fn start(self) -> Purlin {
        Purlin::start(self.command_line())
    }

    /// The arguments of the binary.
    fn command_line(self) -> Vec<OsString> {
        let kernel = self.directory.join(self.flavour).join(self.image);
        let initrd = kernel.with_file_name("test.cpio");
        assert!(kernel.exists(), "{} is not there", kernel.display());
        let mut arguments: Vec<OsString> = vec!["run".into(), "--kernel".into(), kernel.into()];
        arguments.extend(["--initrd".into(), initrd.into()]);
        arguments.extend(["--cmdline".into(), self.cmdline.into()]);
        arguments.extend(self.arguments);
        arguments
    }

    fn run(self) -> Exit {
        self.start().wait(BOOT)
    }
}

/// The value that the guest printed after `key`, on a line of its own.
fn value<'a>(output: &'a str, key: &str) -> Option<&'a str> {
    output.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim)
}

/// The number that the guest printed after `key`.
fn number(output: &str, key: &str) -> u64 {
    let value = value(output, key).unwrap_or_else(|| panic!("no {key} in: {output}"));
    value.parse().unwrap_or_else(|_| panic!("{key} is followed by {value:?}, not a number"))
}
