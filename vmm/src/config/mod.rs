//! What a machine is made of, as data: the TOML file, the flags, and the checks that need no host.
//!
//! A file and the command line say the same things with the same words. Parts with more than one
//! value ([`Memory`], [`Cpus`], [`Serial`]) are a table in the file, or a string in the syntax of
//! the flags (see [`Part`]), so that `memory = "512M,pages=2M"` and `--memory 512M,pages=2M` are
//! read by one decoder.
//!
//! ```
//! use purlin_vmm::config::{Config, Part};
//!
//! let mut config = Config { kernel: "vmlinuz".into(), ..Config::default() };
//! config.memory = config.memory.with("1G,pages=2M")?;
//! config.check()?;
//! # Ok::<(), purlin_vmm::config::ConfigError>(())
//! ```

mod check;
mod cpus;
mod disk;
mod error;
mod flag;
mod load;
mod memory;
mod scalar;
mod serial;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use cpus::Cpus;
pub use disk::{Cache, Disk};
pub use error::ConfigError;
pub use flag::{Part, word};
pub use memory::{Backing, MIN_MEMORY, Memory, Pages};
pub use scalar::Size;
pub use serial::{Serial, Target};

/// A machine, as its user describes it. Every key may be left out, except `kernel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// What messages call this machine. Default: `purlin`.
    pub name: String,
    /// The kernel image: bzImage, ELF or PVH, told apart by content. Empty: none was given, which
    /// [`check`](Self::check) refuses.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line; what devices announce is added to it. Default: `console=ttyS0`.
    pub cmdline: String,
    /// How the kernel is started.
    pub protocol: Protocol,
    /// How the platform is described to the kernel.
    pub tables: Tables,
    /// Guest RAM.
    #[serde(deserialize_with = "flag::part")]
    pub memory: Memory,
    /// The processors.
    #[serde(deserialize_with = "flag::part")]
    pub cpus: Cpus,
    /// The serial ports.
    #[serde(deserialize_with = "flag::part")]
    pub serial: Serial,
    /// The disks, in the order in which the guest finds them.
    #[serde(deserialize_with = "flag::parts")]
    pub disk: Vec<Disk>,
    /// Where the guest's random numbers come from, for example `/dev/urandom`. Default: the guest has
    /// no source of them.
    pub rng: Option<PathBuf>,
    /// Where bytes go that the guest writes to the debug ports 0xe9 and 0x402. Default: nowhere.
    pub debug_console: Target,
    /// What a reset by the guest does.
    pub on_reset: OnReset,
    /// Seconds between the press of the power button and the end of a guest that does not heed it.
    /// Default: 10.
    #[serde(deserialize_with = "scalar::count")]
    pub grace: u32,
    /// Where a trace of the whole run is written at its end, for chrome://tracing or Perfetto.
    pub trace: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "purlin".into(),
            kernel: PathBuf::new(),
            initrd: None,
            cmdline: "console=ttyS0".into(),
            protocol: Protocol::default(),
            tables: Tables::default(),
            memory: Memory::default(),
            cpus: Cpus::default(),
            serial: Serial::default(),
            disk: Vec::new(),
            rng: None,
            debug_console: Target::None,
            on_reset: OnReset::default(),
            grace: 10,
            trace: None,
        }
    }
}

/// How a kernel is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Protocol {
    /// As the image says.
    #[default]
    Auto,
    /// By the Linux boot protocol.
    Linux,
    /// By PVH.
    Pvh,
}

/// How the platform is described to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Tables {
    /// ACPI and MP table: a kernel takes the one that it knows.
    #[default]
    Both,
    /// ACPI only.
    Acpi,
    /// MP table only, for kernels without ACPI.
    Mp,
}

/// What a reset by the guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnReset {
    /// The run ends.
    #[default]
    Exit,
    /// The machine boots again.
    Reboot,
}
