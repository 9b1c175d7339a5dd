//! `cargo xtask bench`: builds the reference VMM and the benchmarks in release, and runs these.

use std::ffi::OsString;
use std::process::{Command, ExitCode, ExitStatus};

use crate::apt::{self, Package};
use crate::error::{Context, Error, Result};
use crate::workspace::{Workspace, say, status};

const TOPIC: &str = "bench";
/// What counts instructions.
const VALGRIND: Package = Package { names: &["valgrind"], provides: &["valgrind"] };

/// What `--help` says beyond clap's own words.
const LONG: &str = "\
Builds everything in release, then measures the named benchmarks, or all of them:

  exit        the cost of an exit through run loop, bus and device
  mock        the same without a hypervisor, and its allocations
  blk         reads of a disk by io_uring, beside a bare io_uring loop on the same file
  instructions
              what a request costs a device, in instructions (callgrind) and allocations
  net         packets through a tap, beside a bare loop on the same tap (as root)
  first-byte  exec to the first byte of the smallest guest
  footprint   memory beyond guest RAM, threads, size of the binary
  linux-init  exec to the init of a Linux guest, which --kernel and --initrd give

A table goes to standard output, a report to target/bench.json.

  --samples N   samples of each subject
  --json FILE   another file for the report
  --check       fail if something required is missed or cannot be measured
  --kernel PATH --initrd PATH --cmdline TEXT --marker TEXT --memory MIB
                the guest of linux-init, and what its init prints
  --firecracker PATH --cloud-hypervisor PATH --qemu PATH
                other VMMs for linux-init

tests/benches/README.md says how to read the figures.";

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG)]
pub(crate) struct Options {
    /// Names of benchmarks, and options for them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// `cargo xtask bench`.
pub(crate) fn main(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    apt::ensure(TOPIC, &[VALGRIND])?;
    build(workspace, &["purlin-vmm", "purlin-bench"])?;
    let ended = run(workspace, &options.args)?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What does not depend on how busy the machine is: no request costs more than was written down.
pub(crate) fn instructions(workspace: &Workspace) -> Result<()> {
    apt::ensure(TOPIC, &[VALGRIND])?;
    build(workspace, &["purlin-bench"])?;
    let report = workspace.cache().join("instructions.json");
    let arguments = ["instructions".into(), "--check".into(), "--json".into(), report.into()];
    let ended = run(workspace, &arguments)?;
    if ended.success() { Ok(()) } else { Err(Error::new("a request costs more than before")) }
}

fn build(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    say(TOPIC, "building in release");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace.root()).args(["build", "--release", "--bins"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    status(&mut cargo)
}

fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<ExitStatus> {
    let program = workspace.root().join("target/release/purlin-bench");
    let ended = Command::new(&program).args(arguments).status();
    ended.context(|| format!("cannot run {}", program.display()))
}
