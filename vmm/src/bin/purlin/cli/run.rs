//! `purlin run`.

use std::path::PathBuf;

use clap::{
    Args, ValueHint,
    builder::{PossibleValuesParser, TypedValueParser},
};
use nix::sys::sysinfo::sysinfo;
use purlin_vmm::config::{
    Config, ConfigError, Cpus, Disk, Memory, OnReset, Part, Protocol, Serial, Tables, Target, word,
};
use serde::de::DeserializeOwned;

use super::{start, text};
use crate::{Failure, Outcome};

/// Run a machine
///
/// What the machine is made of comes from a TOML file, from flags, or from both: a flag overrides
/// what the file says under the same key. The console of the guest is this terminal, unless
/// --serial says otherwise; Ctrl-A x ends the run, Ctrl-A h tells the keys.
#[derive(Debug, Args)]
#[command(after_long_help = text::RUN, after_help = "--help says more, with examples.")]
pub(crate) struct Run {
    /// TOML file with the same keys as the flags (without --)
    ///
    /// Relative paths in it are taken from its own directory; those in flags are taken from the
    /// current one.
    #[arg(value_name = "FILE.toml", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,

    /// Kernel to boot: bzImage, ELF or PVH, told apart by content
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    kernel: Option<PathBuf>,

    /// Initial RAM disk
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    initrd: Option<PathBuf>,

    /// Kernel command line [default: console=ttyS0]
    ///
    /// It replaces the default: say `console=ttyS0` in it too to see the guest's console.
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: Option<String>,

    /// RAM: SIZE,backing=...,pages=...,prefault=on [default: 512M]
    ///
    /// Any of these may be left out. SIZE is a whole number with K, M, G or T (or B); without a
    /// letter it counts MiB. backing is private (the default), shared (a memfd) or file:PATH. pages
    /// is default (transparent huge pages where the host offers them), small (none), transparent (an
    /// error where the host has none), or 2M or 1G, which have to be reserved on the host.
    /// prefault=on takes all of it at the start.
    #[arg(short, long, value_name = "SIZE[,...]", value_parser = list::<Memory>)]
    memory: Option<String>,

    /// CPUs: COUNT,threads=N,cores=N,sockets=N [default: 1]
    ///
    /// threads of each core, cores of each socket, sockets of the machine: what is left out is
    /// computed; a count alone is one socket of that many cores. A machine has 1 to 64 CPUs.
    #[arg(short = 'p', long, value_name = "COUNT[,...]", value_parser = list::<Cpus>)]
    cpus: Option<String>,

    /// Serial ports: COM1,com2=TARGET,com3=TARGET,com4=TARGET [default: stdio]
    ///
    /// A TARGET is none, stdio, pty (its path is printed), file:PATH, append:PATH or unix:PATH (a
    /// socket that listens). com1 is stdio unless said otherwise, the others are none. A comma in a
    /// path is written twice. May be given more than once.
    #[arg(short, long, value_name = "TARGET[,...]", value_parser = list::<Serial>)]
    serial: Vec<String>,

    /// Disk: PATH,read-only=on,cache=...,id=TEXT; may be given more than once
    ///
    /// PATH is a raw image or a block device. cache says when what the guest wrote survives a power
    /// cut: writeback (the default), when the guest has flushed; writethrough, at once; unsafe, some
    /// day. id is the serial number that the guest reads. The disks given here replace those of the
    /// file.
    #[arg(short, long, value_name = "PATH[,...]", value_parser = list::<Disk>)]
    disk: Vec<String>,

    /// Source of random numbers for the guest, for example /dev/urandom [default: none]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    rng: Option<PathBuf>,

    /// Where output to the debug ports 0xe9 and 0x402 goes [default: none]
    ///
    /// A TARGET as for --serial.
    #[arg(long, value_name = "TARGET", value_parser = value::<Target>)]
    debug_console: Option<Target>,

    /// What a reset by the guest does [default: exit]
    #[arg(long, value_name = "WHAT", value_parser = one_of::<OnReset>(["exit", "reboot"]))]
    on_reset: Option<OnReset>,

    /// Seconds from pressing the power button to stopping the guest [default: 10]
    ///
    /// SIGTERM and SIGINT press the guest's power button. A guest that is still there after this
    /// time, or at the second signal, is stopped.
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u32>,

    /// How the kernel is started [default: auto]
    #[arg(long, value_name = "NAME", value_parser = one_of::<Protocol>(["auto", "linux", "pvh"]))]
    protocol: Option<Protocol>,

    /// How the platform is described to the kernel [default: both]
    #[arg(long, value_name = "NAME", value_parser = one_of::<Tables>(["acpi", "mp", "both"]))]
    tables: Option<Tables>,

    /// Name of the machine in messages [default: purlin]
    #[arg(short, long)]
    name: Option<String>,

    /// Write a trace of the run there, for chrome://tracing or Perfetto
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    trace: Option<PathBuf>,
}

impl Run {
    pub(crate) fn execute(self) -> Outcome {
        let config = self.config().map_err(Failure::usage)?;
        start::start(&config)
    }

    /// What the file and the flags say together, checked.
    pub(super) fn config(self) -> Result<Config, ConfigError> {
        let mut config = match &self.file {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        self.apply(&mut config)?;
        config.check()?;
        // Not by /proc/meminfo, which the kernel sums up at some length.
        if let Ok(host) = sysinfo() {
            config.check_host_memory(host.ram_total())?;
        }
        Ok(config)
    }

    fn apply(self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(list) = &self.memory {
            config.memory = config.memory.with(list)?;
        }
        if let Some(list) = &self.cpus {
            config.cpus = config.cpus.with(list)?;
        }
        for list in &self.serial {
            config.serial = config.serial.with(list)?;
        }
        if !self.disk.is_empty() {
            let disks = self.disk.iter().map(|list| Disk::default().with(list));
            config.disk = disks.collect::<Result<_, _>>()?;
        }
        config.rng = self.rng.or(config.rng.take());
        config.initrd = self.initrd.or(config.initrd.take());
        config.trace = self.trace.or(config.trace.take());
        set(&mut config.name, self.name);
        set(&mut config.kernel, self.kernel);
        set(&mut config.cmdline, self.cmdline);
        set(&mut config.protocol, self.protocol);
        set(&mut config.tables, self.tables);
        set(&mut config.debug_console, self.debug_console);
        set(&mut config.on_reset, self.on_reset);
        set(&mut config.grace, self.grace);
        Ok(())
    }
}

fn set<T>(value: &mut T, flag: Option<T>) {
    if let Some(flag) = flag {
        *value = flag;
    }
}

/// Checks a list, which is applied once the file is known.
fn list<P: Part>(text: &str) -> Result<String, String> {
    P::default().with(text).map(|_| text.into()).map_err(reason)
}

fn value<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    word(text).map_err(reason)
}

/// Words that the help and the completions list.
fn one_of<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    words: impl IntoIterator<Item = &'static str>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words).try_map(|text| value(&text))
}

/// The message without the value, which clap names itself.
fn reason(error: ConfigError) -> String {
    match error {
        ConfigError::Value { message, .. } => message,
        other => other.to_string(),
    }
}
