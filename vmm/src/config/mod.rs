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

mod balloon;
mod check;
mod console;
mod cpus;
mod disk;
mod error;
mod flag;
mod fs;
mod load;
mod memory;
mod memory_max;
mod net;
mod pmem;
mod rng;
mod scalar;
mod serial;
mod vhost_user;
mod vsock;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use balloon::Balloon;
pub use console::Console;
pub use cpus::Cpus;
pub use disk::{Backing as DiskBacking, Cache, Disk, Engine, Format};
pub use error::ConfigError;
pub use flag::{Part, word};
pub use fs::{Fs, FsCache, Root};
pub use memory::{Backing, MIN_MEMORY, Memory, Pages};
pub use memory_max::{MEMORY_STEP, MemoryMax};
pub use net::{Net, User};
pub use pmem::Pmem;
pub use rng::Rng;
pub use scalar::Size;
pub use serial::{Serial, Target};
pub use vhost_user::{Kind, VhostUser};
pub use vsock::Vsock;

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
    /// What memory the machine can gain while it runs.
    #[serde(deserialize_with = "flag::part")]
    pub memory_max: MemoryMax,
    /// The processors.
    #[serde(deserialize_with = "flag::part")]
    pub cpus: Cpus,
    /// The serial ports.
    #[serde(deserialize_with = "flag::part")]
    pub serial: Serial,
    /// What virtio devices are on.
    pub bus: Bus,
    /// The disks, in the order in which the guest finds them.
    #[serde(deserialize_with = "flag::parts")]
    pub disk: Vec<Disk>,
    /// The network cards, in the order in which the guest finds them.
    #[serde(deserialize_with = "flag::parts")]
    pub net: Vec<Net>,
    /// Files as persistent memory, in the order in which the guest finds them.
    #[serde(deserialize_with = "flag::parts")]
    pub pmem: Vec<Pmem>,
    /// Directories of the host that the guest can mount.
    #[serde(deserialize_with = "flag::parts")]
    pub fs: Vec<Fs>,
    /// A directory of the host that is the guest's root.
    #[serde(deserialize_with = "flag::some_part")]
    pub root: Option<Root>,
    /// What runs in the root, instead of its own `init`: a program and its arguments, whose exit
    /// status becomes the machine's. Empty: nothing.
    pub command: Vec<String>,
    /// Where the guest's random numbers come from, for example `/dev/urandom`. Default: the guest has
    /// no source of them.
    #[serde(deserialize_with = "flag::some_part")]
    pub rng: Option<Rng>,
    /// The ports of the virtio console, in their order. Default: it is not there.
    #[serde(deserialize_with = "flag::parts")]
    pub console: Vec<Console>,
    /// The memory balloon. Default: it is not there.
    #[serde(deserialize_with = "flag::some_part")]
    pub balloon: Option<Balloon>,
    /// Sockets between guest and host. Default: none.
    #[serde(deserialize_with = "flag::some_part")]
    pub vsock: Option<Vsock>,
    /// Devices that other processes serve, in the order in which the guest finds them.
    #[serde(deserialize_with = "flag::parts")]
    pub vhost_user: Vec<VhostUser>,
    /// How many threads serve the devices, which are dealt to them in turn, 1 to [`MAX_IO_THREADS`].
    /// Default: 1.
    #[serde(deserialize_with = "scalar::count")]
    pub io_threads: u32,
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
            memory_max: MemoryMax::default(),
            cpus: Cpus::default(),
            serial: Serial::default(),
            bus: Bus::default(),
            disk: Vec::new(),
            net: Vec::new(),
            pmem: Vec::new(),
            fs: Vec::new(),
            root: None,
            command: Vec::new(),
            rng: None,
            console: Vec::new(),
            balloon: None,
            vsock: None,
            vhost_user: Vec::new(),
            debug_console: Target::None,
            on_reset: OnReset::default(),
            grace: 10,
            io_threads: 1,
            trace: None,
        }
    }
}

/// The most threads that serve devices: as many as PCI has room for devices.
pub const MAX_IO_THREADS: u32 = 32;

impl Config {
    /// What virtio devices are on: [`Bus::Mmio`] or [`Bus::Pci`].
    pub fn transport(&self) -> Bus {
        match (self.bus, self.tables) {
            (Bus::Auto, Tables::Mp) => Bus::Mmio,
            (Bus::Auto, _) => Bus::Pci,
            (bus, _) => bus,
        }
    }

    /// Whether the machine has a virtio device.
    pub fn has_virtio(&self) -> bool {
        let none = self.disk.is_empty()
            && self.net.is_empty()
            && self.pmem.is_empty()
            && self.fs.is_empty()
            && self.console.is_empty()
            && self.vhost_user.is_empty();
        let memory = self.memory_max.size.is_some();
        let root = self.root.is_some();
        let others = self.rng.is_some() || self.balloon.is_some() || self.vsock.is_some();
        !none || memory || root || others
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

/// What virtio devices are on, and how the guest finds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Bus {
    /// PCI, if there is a virtio device at all, and if the guest gets to know of it: not where only an MP
    /// table describes the machine.
    #[default]
    Auto,
    /// Each for itself, announced by ACPI and on the command line, with an interrupt line of its own: up
    /// to eight devices.
    Mmio,
    /// On a PCI Express bus, with MSI-X: up to 31 devices.
    Pci,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtio_devices_are_on_pci_unless_something_else_is_said() {
        let with = |bus, tables| Config { bus, tables, ..Config::default() }.transport();
        assert_eq!(with(Bus::Auto, Tables::Both), Bus::Pci);
        assert_eq!(with(Bus::Auto, Tables::Acpi), Bus::Pci);
        assert_eq!(with(Bus::Auto, Tables::Mp), Bus::Mmio);
        assert_eq!(with(Bus::Mmio, Tables::Both), Bus::Mmio);
        assert_eq!(with(Bus::Pci, Tables::Mp), Bus::Pci);
    }
}
