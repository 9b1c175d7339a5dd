//! `purlin run`.

use std::path::PathBuf;

use clap::{
    Args, ValueHint,
    builder::{PossibleValuesParser, TypedValueParser},
};
use nix::sys::sysinfo::sysinfo;
use purlin_vmm::config::{
    Balloon, Bus, Config, ConfigError, Console, Cpus, Disk, Fs, Memory, MemoryMax, Net, OnReset,
    Part, Pmem, Protocol, Rng, Root, Serial, Tables, Target, VhostUser, Vsock, word,
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
    /// letter it counts MiB. backing is auto (the default), private, shared (a memfd) or
    /// file:PATH; auto is shared beside --vhost-user, else private. pages
    /// is default (transparent huge pages where the host offers them), small (none), transparent (an
    /// error where the host has none), or 2M or 1G, which have to be reserved on the host.
    /// prefault=on takes all of it at the start.
    #[arg(short, long, value_name = "SIZE[,...]", value_parser = list::<Memory>)]
    memory: Option<String>,

    /// Memory that the machine can gain while it runs: SIZE,requested=SIZE [default: none]
    ///
    /// SIZE is the most that there can be; --memory is what the machine starts with. requested is
    /// how much the guest is asked to have from the start on: it plugs in the rest as soon as its
    /// driver (virtio-mem) is there. Both count all memory of the machine, in steps of 2M from what
    /// it starts with. Linux adds memory in blocks of 128M: the rest of what there can be, it leaves.
    /// For example 8G,requested=4G.
    #[arg(long, value_name = "SIZE[,...]", value_parser = list::<MemoryMax>)]
    memory_max: Option<String>,

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

    /// What disks and other virtio devices are on [default: auto]
    ///
    /// pci: on a PCI Express bus with MSI-X; at most 31. mmio: each for itself, with an interrupt line
    /// of its own; at most eight of them. auto: on PCI, which is there only if a device is; on mmio with
    /// --tables mp. For example mmio.
    #[arg(long, value_name = "BUS", value_parser = one_of::<Bus>(["auto", "mmio", "pci"]))]
    bus: Option<Bus>,

    /// Disk: PATH,format=...,read-only=on,cache=...,id=TEXT and more; may be given more than once
    ///
    /// PATH is an image or a block device. format is raw or qcow2; without it, it is raw, and an image
    /// that begins as a qcow2 one does is refused. backing says which image a qcow2 image may have
    /// behind it: off (the default), a PATH of a file or directory, or on for any. cache says when what
    /// the guest wrote survives a power cut: writeback (the default), when the guest has flushed;
    /// writethrough, at once; unsafe, some day. engine is io_uring, sync, or auto (the default):
    /// io_uring where the image and the host allow it. direct=on goes past the host's page cache. queues=N gives the guest N queues, 1 to 32.
    /// bytes-per-sec=N and ops-per-sec=N (with K, M, G) limit what the guest does, bytes-burst=N and
    /// ops-burst=N what it does at once after a pause. id is the serial number that the guest reads.
    /// For example root.qcow2,format=qcow2,backing=base,ops-per-sec=500. The disks given here replace
    /// those of the file.
    #[arg(short, long, value_name = "PATH[,...]", value_parser = list::<Disk>)]
    disk: Vec<String>,

    /// Network card: user, tap=NAME, fd=N or socket=PATH, and more; may be given more than once
    ///
    /// user (also the default) is the host's own network by the program passt, without privileges:
    /// TCP, UDP and ping from the guest, addresses by DHCP; tcp-ports=2222:22 and udp-ports=... lead
    /// from ports of the host to the guest. tap=NAME is a tap device, made if it is not there; it can
    /// have queues=N pairs of queues. fd=N is a tap that was left open. socket=PATH is a unix socket
    /// that QEMU would call -netdev stream. mac=02:00:00:00:00:01 is the card's address (default: a
    /// random one), mtu=N what the guest is told. rx-bytes-per-sec=10M, rx-packets-per-sec,
    /// tx-bytes-per-sec and tx-packets-per-sec limit what the guest receives and sends; rx-bytes-burst
    /// and so on are how much comes at once after a pause. For example tap=tap0,queues=4,mtu=9000. The
    /// cards given here replace those of the file.
    #[arg(long, value_name = "NETWORK[,...]", value_parser = list::<Net>)]
    net: Vec<String>,

    /// A file as persistent memory: PATH,read-only=on; may be given more than once
    ///
    /// The guest finds it as /dev/pmem0, /dev/pmem1 and so on; a file system on it that is mounted
    /// with -o dax uses the host's page cache itself. PATH is a file or a block device whose size is
    /// a multiple of 2M. With read-only=on the file is never written: what the guest writes is ignored,
    /// so it has to mount with -o ro,dax. For example data.img,read-only=on. Those given here replace
    /// those of the file.
    #[arg(long, value_name = "PATH[,...]", value_parser = list::<Pmem>)]
    pmem: Vec<String>,

    /// Directory that the guest can mount: DIR,tag=NAME,read-only=on,cache=...; repeatable
    ///
    /// The guest mounts it by `mount -t virtiofs NAME /mnt`; the tag is `share` unless said otherwise.
    /// No link and no name leads out of DIR. cache says how long the guest may trust what it has read:
    /// auto (the default), a second for names and attributes; always, a day, if nobody else writes
    /// there; none, not at all. What the guest makes belongs to the user that runs purlin; if that is
    /// root, to the guest's user. For example /srv/www,tag=www,read-only=on. Those given here replace
    /// those of the file.
    #[arg(long, value_name = "DIR[,...]", value_parser = list::<Fs>)]
    fs: Vec<String>,

    /// Directory that is the guest's root: DIR,read-only=on,cache=...
    ///
    /// The kernel mounts it by itself if it has virtiofs built in; else the initial RAM disk has to.
    /// Without a command, the directory's own init runs.
    #[arg(long, value_name = "DIR[,...]", value_parser = list::<Root>)]
    root: Option<String>,

    /// Program to run in --root, and its arguments
    ///
    /// /dev, /proc and /sys are mounted for it, where the root has such directories. Its exit status
    /// becomes purlin's: 128 and the number of the signal, if one ends it; 126 or 127 if it cannot be
    /// started. Where the machine fails, purlin prints a line and has one of the statuses below.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,

    /// Source of random numbers: PATH,bytes-per-sec=N, for example /dev/urandom [default: none]
    ///
    /// bytes-per-sec=64K is how much of it the guest may have in a second (default: as much as it asks
    /// for).
    #[arg(long, value_name = "PATH[,...]", value_parser = list::<Rng>)]
    rng: Option<String>,

    /// Port of a virtio console: TARGET,name=NAME; may be given more than once [default: none]
    ///
    /// A TARGET as for --serial; stdio needs --serial none beside it. Without a name the port is a
    /// terminal of the guest, in Linux hvc0 (say console=hvc0 in --cmdline to see the kernel's
    /// messages there), and follows the size of this terminal if it is on it. With a name it is for
    /// the guest's programs, which find it as /dev/virtio-ports/NAME. Unlike a serial port's, its
    /// output is never lost: a guest waits until it is read. For example
    /// unix:agent.sock,name=org.example.agent. The ports given here replace those of the file.
    #[arg(long, value_name = "TARGET[,...]", value_parser = list::<Console>)]
    console: Vec<String>,

    /// Memory balloon: SIZE or on, deflate-on-oom=on,free-page-reporting=on,statistics=SECONDS
    ///
    /// SIZE is how much of its memory the guest is asked to give back to the host; on is a balloon
    /// that is empty for now. deflate-on-oom=on lets the guest take memory back before it runs out.
    /// With free-page-reporting=on, memory that the guest does not use goes back to the host by
    /// itself. statistics is how often the guest is asked how its memory is used. For example
    /// 256M,deflate-on-oom=on.
    #[arg(long, value_name = "SIZE[,...]", value_parser = list::<Balloon>)]
    balloon: Option<String>,

    /// Sockets between guest and host: PATH,cid=N [default: none]
    ///
    /// A host program that connects to the Unix socket PATH and says CONNECT 52, a line, reaches who
    /// listens on vsock port 52 in the guest; it is answered OK and a number, a line, or closed. A
    /// guest program that connects to port 52 of the host (CID 2) reaches who listens on the Unix
    /// socket PATH_52. cid is the guest's own address (default: 3). PATH must not be there yet; it is
    /// removed at the end. For example vm.sock,cid=5.
    #[arg(long, value_name = "PATH[,...]", value_parser = list::<Vsock>)]
    vsock: Option<String>,

    /// A device that another process serves: SOCKET,type=...; may be given more than once
    ///
    /// SOCKET is where a vhost-user back end listens: virtiofsd, qemu-storage-daemon, passt and others.
    /// type is blk, fs, net or the number of another type of virtio device. queues=N is how many it has
    /// (a file system beside the one for urgent requests), queue-size=N how many entries each. tag=NAME
    /// is what the guest mounts a file system by, mac=02:00:00:00:00:01 the address of a network card.
    /// Guest RAM is then shared with the back end. One that dies is waited for, and goes on where it
    /// ended; the guest only waits. For example fs.sock,type=fs,tag=share. The devices given here
    /// replace those of the file.
    #[arg(long, value_name = "SOCKET[,...]", value_parser = list::<VhostUser>)]
    vhost_user: Vec<String>,

    /// Threads that serve the devices, which are dealt to them in turn, 1 to 32 [default: 1]
    #[arg(long, value_name = "COUNT")]
    io_threads: Option<u32>,

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
        config.settle();
        // Not by /proc/meminfo, which the kernel sums up at some length.
        if let Ok(host) = sysinfo() {
            config.check_host_memory(host.ram_total())?;
        }
        Ok(config)
    }

    /// Puts what the flags say into `config`.
    pub(super) fn apply(self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(list) = &self.memory {
            config.memory = config.memory.with(list)?;
        }
        if let Some(list) = &self.memory_max {
            config.memory_max = config.memory_max.with(list)?;
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
        if !self.net.is_empty() {
            let nets = self.net.iter().map(|list| Net::default().with(list));
            config.net = nets.collect::<Result<_, _>>()?;
        }
        if !self.pmem.is_empty() {
            let pmem = self.pmem.iter().map(|list| Pmem::default().with(list));
            config.pmem = pmem.collect::<Result<_, _>>()?;
        }
        if let Some(list) = &self.vsock {
            config.vsock = Some(config.vsock.take().unwrap_or_default().with(list)?);
        }
        self.share(config)?;
        if let Some(list) = &self.rng {
            config.rng = Some(config.rng.take().unwrap_or_default().with(list)?);
        }
        if !self.console.is_empty() {
            let consoles = self.console.iter().map(|list| Console::default().with(list));
            config.console = consoles.collect::<Result<_, _>>()?;
        }
        if let Some(list) = &self.balloon {
            config.balloon = Some(config.balloon.take().unwrap_or_default().with(list)?);
        }
        if !self.vhost_user.is_empty() {
            let devices = self.vhost_user.iter().map(|list| VhostUser::default().with(list));
            config.vhost_user = devices.collect::<Result<_, _>>()?;
        }
        config.initrd = self.initrd.or(config.initrd.take());
        config.trace = self.trace.or(config.trace.take());
        set(&mut config.name, self.name);
        set(&mut config.kernel, self.kernel);
        set(&mut config.cmdline, self.cmdline);
        set(&mut config.protocol, self.protocol);
        set(&mut config.tables, self.tables);
        set(&mut config.bus, self.bus);
        set(&mut config.debug_console, self.debug_console);
        set(&mut config.on_reset, self.on_reset);
        set(&mut config.grace, self.grace);
        set(&mut config.io_threads, self.io_threads);
        Ok(())
    }

    /// The directories that the guest sees, and what runs there.
    fn share(&self, config: &mut Config) -> Result<(), ConfigError> {
        if !self.fs.is_empty() {
            let fs = self.fs.iter().map(|list| Fs::default().with(list));
            config.fs = fs.collect::<Result<_, _>>()?;
        }
        if let Some(list) = &self.root {
            config.root = Some(config.root.take().unwrap_or_default().with(list)?);
        }
        if !self.command.is_empty() {
            config.command.clone_from(&self.command);
        }
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
