//! The command line.

use std::{
    env,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::{Args, Parser};

use crate::{bench::Name, error::Result};

/// What Purlin costs, beside what raw ioctls and other VMMs cost.
#[derive(Debug, Parser)]
#[command(name = "purlin-bench", max_term_width = 100)]
pub(crate) struct Options {
    /// What to measure; everything if nothing is named.
    names: Vec<Name>,
    /// How many samples are taken of each subject.
    #[arg(long, default_value = "40")]
    samples: NonZeroUsize,
    /// Where the report is written; the default is bench.json in the target directory.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if something required is missed, or something asked for cannot be measured.
    #[arg(long)]
    pub(crate) check: bool,
    /// The program that is measured; the default is beside this one.
    #[arg(long, value_name = "PATH")]
    purlin: Option<PathBuf>,
    /// The program of raw ioctls; the default is beside this one.
    #[arg(long, value_name = "PATH")]
    floor: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) linux: Linux,
}

/// What linux-init boots, and which VMMs beside Purlin boot it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of linux-init")]
pub(crate) struct Linux {
    /// The kernel. Without one, linux-init does not run.
    #[arg(long, value_name = "PATH")]
    pub(crate) kernel: Option<PathBuf>,
    /// The initial RAM disk.
    #[arg(long, value_name = "PATH")]
    pub(crate) initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[arg(long, default_value = "console=ttyS0 reboot=k panic=-1 quiet")]
    pub(crate) cmdline: String,
    /// What the guest's init prints first.
    #[arg(long, default_value = "BOOT-OK")]
    pub(crate) marker: String,
    /// RAM of the guest, MiB.
    #[arg(long, value_name = "MIB", default_value = "256")]
    pub(crate) memory: u32,
    /// Firecracker, to be measured too.
    #[arg(long, value_name = "PATH")]
    pub(crate) firecracker: Option<PathBuf>,
    /// Cloud Hypervisor, to be measured too.
    #[arg(long, value_name = "PATH")]
    pub(crate) cloud_hypervisor: Option<PathBuf>,
    /// QEMU for x86-64, whose microvm machine is to be measured too.
    #[arg(long, value_name = "PATH")]
    pub(crate) qemu: Option<PathBuf>,
}

impl Options {
    /// What is to be measured, in order.
    pub(crate) fn names(&self) -> Vec<Name> {
        let all = Name::ALL.into_iter();
        all.filter(|name| self.names.is_empty() || self.named(*name)).collect()
    }

    /// Whether the user asked for `name` by name.
    pub(crate) fn named(&self, name: Name) -> bool {
        self.names.contains(&name)
    }

    /// How many samples are taken of each subject.
    pub(crate) fn samples(&self) -> usize {
        self.samples.get()
    }

    /// Where the report is written.
    pub(crate) fn json(&self) -> Result<PathBuf> {
        if let Some(path) = &self.json {
            return Ok(path.clone());
        }
        let own = env::current_exe()?;
        let target = own.ancestors().nth(2).ok_or("this program is in no directory")?;
        Ok(target.join("bench.json"))
    }

    /// The program that is measured.
    pub(crate) fn purlin(&self) -> Result<PathBuf> {
        program(self.purlin.as_deref(), "purlin", "--purlin")
    }

    /// The program of raw ioctls.
    pub(crate) fn floor(&self) -> Result<PathBuf> {
        program(self.floor.as_deref(), "floor", "--floor")
    }
}

/// The program at `given`, or called `name` beside this one.
fn program(given: Option<&Path>, name: &str, flag: &str) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => env::current_exe()?.with_file_name(name),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("there is no {}; build it, or say {flag} PATH", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_if_nothing_is_named() {
        let options = Options::parse_from(["purlin-bench"]);
        assert_eq!(options.names(), Name::ALL);
        assert!(!options.named(Name::Exit));
    }

    #[test]
    fn the_named_are_measured_once_each_in_their_own_order() {
        let options = Options::parse_from(["purlin-bench", "mock", "exit", "mock"]);
        assert_eq!(options.names(), [Name::Exit, Name::Mock]);
    }
}
