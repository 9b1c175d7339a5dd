//! `cargo xtask bench`: builds the reference VMM and the benchmarks in release, and runs these.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use crate::error::{Context, Error, Result};
use crate::workspace::{Workspace, say};

/// What `--help` says beyond clap's own words.
const LONG: &str = "\
Builds everything in release, then measures the named benchmarks, or all of them:

  exit        the cost of an exit through run loop, bus and device
  mock        the same without a hypervisor, and its allocations
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
    say("bench", "building in release");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace.root()).args(["build", "--release", "--bins"]);
    let built = cargo
        .args(["--package", "purlin-vmm", "--package", "purlin-bench"])
        .status()
        .context(|| "cannot run cargo".to_owned())?;
    if !built.success() {
        return Err(Error::new(format!("cargo build failed with {built}")));
    }
    let program = workspace.root().join("target/release/purlin-bench");
    let ended = Command::new(&program)
        .args(&options.args)
        .status()
        .context(|| format!("cannot run {}", program.display()))?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
