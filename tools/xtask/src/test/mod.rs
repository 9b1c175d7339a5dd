//! `cargo xtask test`: everything that must hold before a change lands.

pub(crate) mod binaries;
pub(crate) mod guests;
mod lanes;
mod licences;
mod linux;
mod passt;
mod programs;

use std::{
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use clap::{Args, ValueEnum};

use crate::{
    apt::{self, Package},
    bench,
    checks::{layers, listings, sizes, unsafety},
    error::{Error, Result},
    fuzz, with_kvm,
    workspace::{Workspace, say, status},
};

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a tier, all of them run, in this order, in about 30 minutes on two cores. What a tier lacks is
installed by apt (as root, or the command to run is told).

  cargo xtask test                 everything
  cargo xtask test check unit      what needs neither KVM nor a kernel
  cargo xtask test linux           stock kernels; under with-kvm where the CPU has no VMX or SVM")]
pub(crate) struct Options {
    /// Which tiers.
    #[arg(value_enum)]
    tiers: Vec<Tier>,
}

/// A part of the tests that can run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Formatting, lints, layers, sizes, unsafe code, listings, licences.
    Check,
    /// Unit, conformance and documentation tests; KVM tests too where /dev/kvm opens.
    Unit,
    /// KVM tests and stock Linux kernels on real virtualization hardware.
    Linux,
    /// Every fuzz target builds and runs for some seconds.
    Fuzz,
    /// No request costs a device more instructions than were written down.
    Instructions,
    /// The documentation builds without a warning.
    Docs,
    /// Every crate packages as it would be published.
    Package,
}

const TOPIC: &str = "test";
const ALL: [Tier; 7] = [
    Tier::Check,
    Tier::Unit,
    Tier::Linux,
    Tier::Fuzz,
    Tier::Instructions,
    Tier::Docs,
    Tier::Package,
];
/// How long each fuzz target runs; `cargo xtask fuzz` takes longer.
const FUZZ_SECONDS: u32 = 5;

/// Runs `cargo xtask test`. Every tier is run, also after one has failed.
pub(crate) fn main(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let wanted = |tier: &Tier| options.tiers.is_empty() || options.tiers.contains(tier);
    let mut failed = Vec::new();
    for tier in ALL.into_iter().filter(wanted) {
        let start = Instant::now();
        let name = format!("{tier:?}").to_lowercase();
        say(TOPIC, &format!("--- {name}"));
        let result = tier.run(workspace);
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(()) => say(TOPIC, &format!("--- {name}: ok, {seconds} s")),
            Err(error) => {
                crate::workspace::complain(&error);
                say(TOPIC, &format!("--- {name}: FAILED, {seconds} s"));
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        say(TOPIC, "everything passed");
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::new(format!("these tiers failed: {}", failed.join(", "))))
}

impl Tier {
    fn run(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Check => check(workspace),
            Self::Unit => unit(workspace),
            Self::Linux => linux::run(workspace),
            Self::Fuzz => fuzz::smoke(workspace, FUZZ_SECONDS),
            Self::Instructions => bench::instructions(workspace),
            Self::Docs => docs(workspace),
            Self::Package => package(workspace),
        }
    }
}

fn check(workspace: &Workspace) -> Result<()> {
    cargo(workspace, &["fmt", "--all", "--check"])?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-Dwarnings"];
    cargo(workspace, &clippy)?;
    layers::main(workspace)?;
    sizes::main(workspace)?;
    unsafety::main(workspace)?;
    listings::main(workspace, &listings::Options { write: false })?;
    licences::check(workspace)
}

/// Programs of others that tests talk to or compare with.
const PEERS: &[Package] = &[
    Package { names: &["iperf3"], provides: &["iperf3"] },
    Package { names: &["iproute2"], provides: &["ip"] },
    Package { names: &["passt"], provides: &["passt"] },
    Package { names: &["qemu-utils"], provides: &["qemu-img"] },
    Package { names: &["qemu-system-common"], provides: &["qemu-storage-daemon"] },
    Package { names: &["socat"], provides: &["socat"] },
    with_kvm::VIRTIOFSD,
];

fn unit(workspace: &Workspace) -> Result<()> {
    apt::ensure(TOPIC, PEERS)?;
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace", "--all-features"]).env("REQUIRE_PEERS", "1");
    // Where KVM opens, its tests must not skip themselves.
    if Path::new("/dev/kvm").exists() {
        command.env("REQUIRE_KVM", "1");
    }
    if may_make_taps() {
        command.env("REQUIRE_TAP", "1");
    }
    status(command.current_dir(workspace.root()))
}

/// Whether this process may make network interfaces: the host has taps, and it has `CAP_NET_ADMIN`.
fn may_make_taps() -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = own.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    Path::new("/dev/net/tun").exists() && effective.unwrap_or(0) & NET_ADMIN != 0
}

fn docs(workspace: &Workspace) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["doc", "--workspace", "--no-deps", "--all-features"]);
    status(command.env("RUSTDOCFLAGS", "-Dwarnings").current_dir(workspace.root()))
}

fn package(workspace: &Workspace) -> Result<()> {
    let mut arguments = vec!["package", "--allow-dirty", "--workspace"];
    for unpublished in ["xtask", "purlin-tests", "purlin-bench"] {
        arguments.extend(["--exclude", unpublished]);
    }
    // A directory of its own each time: cargo keeps the unpacked packages of one place by version, and
    // would verify against those of an earlier run.
    let directory = workspace.cache().join(format!("package-{}", std::process::id()));
    let target = directory.to_string_lossy().into_owned();
    arguments.extend(["--target-dir", &target]);
    let result = cargo(workspace, &arguments);
    // What is left is only scratch.
    let _ = std::fs::remove_dir_all(directory);
    result
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    status(Command::new("cargo").args(arguments).current_dir(workspace.root()))
}
