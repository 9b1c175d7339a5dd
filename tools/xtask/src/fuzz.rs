//! `cargo xtask fuzz`: libFuzzer on the targets of `tests/fuzz`, with the stable toolchain.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;

use crate::{
    apt::{self, Package},
    error::{AtPath, Context, Error, Result},
    workspace::{Workspace, say, status},
};

const TOPIC: &str = "fuzz";
/// libFuzzer itself is C++.
const COMPILER: Package = Package { names: &["g++"], provides: &["c++", "g++"] };
/// The edges that libFuzzer counts, in one codegen unit, so that there is one table of them.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";
/// The target is named, so that build scripts and macros are built without [`FLAGS`].
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
#[command(after_help = "\
What an input has taught stays in target/xtask/corpus. An input that fails is kept there, too, and its
path printed; give it to the target to see the failure again:

  cargo xtask fuzz virtio-blk --seconds 600
  target/xtask/fuzz/x86_64-unknown-linux-gnu/release/virtio-blk target/xtask/corpus/crash-...")]
pub(crate) struct Options {
    /// Which targets; all of them if none is named.
    targets: Vec<String>,
    /// How long each is run.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs `cargo xtask fuzz`.
pub(crate) fn main(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let known = targets(workspace)?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        let known = known.join(", ");
        return Err(Error::new(format!("no fuzz target is called `{unknown}`; there are {known}")));
    }
    let wanted = if options.targets.is_empty() { &known } else { &options.targets };
    run(workspace, wanted, options.seconds)?;
    Ok(ExitCode::SUCCESS)
}

/// Every target for a few seconds: that it builds, and that nothing fails at once.
pub(crate) fn smoke(workspace: &Workspace, seconds: u32) -> Result<()> {
    run(workspace, &targets(workspace)?, seconds)
}

/// The names of the targets, which are those of their files.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let dir = workspace.root().join("tests/fuzz/targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).at("read", &dir)? {
        let path = entry.at("read", &dir)?.path();
        if path.extension() == Some(OsStr::new("rs"))
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().replace('_', "-"));
        }
    }
    names.sort();
    Ok(names)
}

fn run(workspace: &Workspace, targets: &[String], seconds: u32) -> Result<()> {
    apt::ensure(TOPIC, &[COMPILER])?;
    say(TOPIC, "building the targets");
    let directory = workspace.cache().join("fuzz");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace.root().join("tests/fuzz")).env("RUSTFLAGS", FLAGS);
    cargo.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(&directory);
    status(&mut cargo)?;
    let corpora = workspace.cache().join("corpus");
    for target in targets {
        say(TOPIC, &format!("{target}, {seconds} s"));
        let program = directory.join(TARGET).join("release").join(target);
        fuzz(&program, &corpora, target, seconds)?;
    }
    Ok(())
}

fn fuzz(program: &Path, corpora: &Path, target: &str, seconds: u32) -> Result<()> {
    let corpus = corpora.join(target);
    fs::create_dir_all(&corpus).at("create", &corpus)?;
    let log: PathBuf = corpora.join(format!("{target}.log"));
    let file = fs::File::create(&log).at("create", &log)?;
    let mut command = Command::new(program);
    command.arg(format!("-max_total_time={seconds}"));
    // More than a guest may make the VMM grow, or hold it up.
    command.args(["-rss_limit_mb=1024", "-timeout=20", "-max_len=4096", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/{target}-", corpora.display())).arg(&corpus);
    command.stdout(file.try_clone().at("share", &log)?).stderr(file);
    status(&mut command).context(|| format!("an input fails; {} says more", log.display()))
}
