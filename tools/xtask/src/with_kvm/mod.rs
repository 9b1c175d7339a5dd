//! `cargo xtask with-kvm`: any command under a real kvm_amd, on machines whose CPU has neither VMX
//! nor SVM.
//!
//! QEMU emulates a PC with SVM and boots a stock Debian kernel on it; that kernel's own KVM modules
//! then are a real KVM, if a slow one. The host's root directory is that guest's root directory, so
//! whatever runs here runs there.

mod host;
mod job;
mod machine;
mod process;
mod quote;
mod session;
mod share;
mod size;
mod tail;
mod terminal;

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Args;

pub(crate) use self::host::Host;
use self::job::Job;
use self::machine::{Machine, QEMU};
use self::session::{End, Signals};
use self::share::Share;
pub(crate) use self::share::VIRTIOFSD;
use self::size::Size;
use self::tail::Tail;
use self::terminal::Raw;
use crate::apt;
use crate::error::{AtPath, Context, Error, Result};
use crate::initramfs::{Initramfs, busybox};
use crate::kernel::{Flavour, Kernel};
use crate::workspace::{Workspace, say};

/// Options of `cargo xtask with-kvm`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The command sees this machine's files read-only, with an empty /tmp, /var/tmp, /run and /dev/shm of
its own, no network, its caller's working directory, user and chosen environment variables (PATH,
HOME, CARGO*, RUST*, REQUIRE_*, PURLIN_* and the like). It may write to $PURLIN_SCRATCH, which is
lost, and to what --writable names. When it ends, what it left running is killed.

Exit status: the command's (128 + N if signal N ended it); 124 when the time is over; 125 when the
outer guest fails; 128 + N when signal N ended with-kvm.

  cargo xtask with-kvm -- ls -l /dev/kvm
  cargo xtask with-kvm --timeout 600 --writable target/report -- target/debug/deps/some_test")]
pub(crate) struct Options {
    /// Memory of the outer guest; less if this machine cannot give as much.
    #[arg(long, value_name = "SIZE", default_value_t = Size::mib(6 * 1024))]
    pub memory: Size,
    /// CPUs of the outer guest. With several, QEMU's emulation now and then crashes a kernel that
    /// rewrites its own code on one CPU while another runs it: the outer guest's, or one in it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64), default_value_t = 1)]
    pub cpus: u8,
    /// Kill everything after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub timeout: u64,
    /// A directory of this machine to which the command may write; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub writable: Vec<PathBuf>,
    /// Give the command this terminal (else it has three pipes).
    #[arg(long)]
    pub tty: bool,
    /// Use the outer guest although this machine's own KVM would do.
    #[arg(long)]
    pub force: bool,
    /// Show the outer guest's console.
    #[arg(long, short)]
    pub verbose: bool,
    /// The command and its arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

impl Options {
    /// The options that running `command` without flags has.
    pub(crate) fn for_command(command: Vec<OsString>) -> Self {
        Self {
            memory: Size::mib(6 * 1024),
            cpus: 1,
            timeout: 1800,
            writable: Vec::new(),
            tty: false,
            force: false,
            verbose: false,
            command,
        }
    }
}

const TOPIC: &str = "with-kvm";

/// Exit status when this command itself fails, as of env(1) and timeout(1).
pub(crate) const OWN_FAILURE: u8 = 125;

/// Runs `cargo xtask with-kvm`.
pub(crate) fn main(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if Host::detect() == Host::Native && !options.force {
        say(TOPIC, "this machine's own KVM can do it, running the command directly");
        return directly(workspace, options);
    }
    run(workspace, options)
}

/// Becomes the command; returns only to say why it could not.
fn directly(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let scratch = workspace.cache().join("scratch");
    fs::create_dir_all(&scratch).at("create", &scratch)?;
    let failure = Command::new("timeout")
        .args(["--foreground", "--kill-after=10s", &format!("{}s", options.timeout)])
        .args(&options.command)
        .env("PURLIN_SCRATCH", scratch)
        .exec();
    Err(failure).context(|| "cannot run timeout(1)".to_owned())
}

/// Installs what outer guests are run by.
pub(crate) fn ensure() -> Result<()> {
    apt::ensure(TOPIC, &[QEMU, VIRTIOFSD])
}

/// Runs the command in an outer guest; the result is the command's exit status.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    ensure()?;
    let kernel = Kernel::fetch(workspace, Flavour::Cloud)?;
    let signals = Signals::hold()?;
    let files = Temporary::new()?;
    let tail = Tail::new(options.verbose);
    let job = job(workspace, options)?;
    let initramfs = files.0.join("initramfs");
    fs::write(&initramfs, image(workspace, &kernel, &job)?).at("write", &initramfs)?;
    let shares = shares(&job, &files.0, &tail)?;
    let machine = Machine {
        kernel: &kernel.image,
        initramfs: &initramfs,
        memory: options.memory.capped_by_host(),
        cpus: options.cpus,
        shares: &shares,
        terminal: options.tty,
        verbose: options.verbose,
    };
    let (memory, cpus) = (machine.memory, machine.cpus);
    let plural = if cpus == 1 { "" } else { "s" };
    say(TOPIC, &format!("booting outer guest, {cpus} CPU{plural}, {memory} (about 5 s)"));
    let (guest, streams) = machine.start(&tail)?;
    let raw = options.tty.then(Raw::enter).transpose()?;
    let limit = Duration::from_secs(options.timeout);
    let mut files = Some(files);
    let end = session::run(guest, streams, signals, limit, || {
        // The guest has all that it needs of them; even a SIGKILL now leaves nothing.
        files.take();
        if !options.tty {
            let seconds = start.elapsed().as_secs_f64();
            say(TOPIC, &format!("outer guest is up after {seconds:.1} s, running the command"));
        }
    });
    drop(raw);
    status(end?, options, &tail)
}

/// Says what there is to say about the session's end.
fn status(end: End, options: &Options, tail: &Tail) -> Result<ExitCode> {
    let last = || match tail.lines(30) {
        said if options.verbose || said.is_empty() => String::new(),
        said => format!("; its console's last lines:\n{said}"),
    };
    match end {
        End::Exit(status) => Ok(ExitCode::from(status)),
        End::Fail(why) => Err(Error::new(format!("the outer guest failed: {why}{}", last()))),
        End::Lost => Err(Error::new(format!("the outer guest ended before its time{}", last()))),
        End::Timeout(started) => {
            let boot = session::BOOT_LIMIT.as_secs();
            if !started && options.timeout > boot {
                let what = format!("the outer guest has not come up within {boot} s{}", last());
                return Err(Error::new(what));
            }
            let what = if started { "the command" } else { "the outer guest, still booting," };
            say(TOPIC, &format!("killed {what} after the time limit of {} s", options.timeout));
            Ok(ExitCode::from(124))
        }
        End::Signal(signal) => {
            let number = u8::try_from(signal as i32).unwrap_or_default();
            Ok(ExitCode::from(128 + number))
        }
    }
}

fn job(workspace: &Workspace, options: &Options) -> Result<Job> {
    let directory = env::current_dir().context(|| "there is no working directory".to_owned())?;
    let real = |path: &PathBuf| {
        let real = path.canonicalize().at("share", path)?;
        let directory = real.is_dir().then_some(real);
        directory.ok_or_else(|| Error::new(format!("{} is no directory", path.display())))
    };
    Ok(Job {
        command: options.command.clone(),
        keep: vec![workspace.root().to_owned(), directory.clone()],
        directory,
        writable: options.writable.iter().map(real).collect::<Result<_>>()?,
        terminal: options.tty.then(terminal::size),
        environment: env::vars_os().collect(),
    })
}

/// What the outer guest loads: KVM, and what tests of a VMM use besides.
const MODULES: &[&str] = &["kvm_amd", "tun", "loop"];

/// The outer guest's initramfs: a part that depends on the kernel only, and the job's.
fn image(workspace: &Workspace, kernel: &Kernel, job: &Job) -> Result<Vec<u8>> {
    let name = format!("with-kvm/{}-{}", kernel.version, MODULES.join("-"));
    let base = workspace.cached(&name, |dir| {
        Initramfs::new()
            .busybox(&busybox(workspace, TOPIC)?)?
            .modules(kernel, MODULES)?
            .write(&dir.join("base.cpio"))
    })?;
    let base = base.join("base.cpio");
    let mut bytes = fs::read(&base).at("read", &base)?;
    let own = Initramfs::empty().init(include_str!("guest/init.sh")).file(
        "agent.sh",
        include_str!("guest/agent.sh"),
        0o644,
    );
    bytes.extend(job.add_to(own)?.bytes()?);
    Ok(bytes)
}

fn shares(job: &Job, sockets: &Path, tail: &Tail) -> Result<Vec<Share>> {
    let mut shares = vec![Share::start(Path::new("/"), "root".to_owned(), true, (sockets, tail))?];
    for (number, dir) in job.writable.iter().enumerate() {
        shares.push(Share::start(dir, format!("writable{number}"), false, (sockets, tail))?);
    }
    Ok(shares)
}

/// A directory for this run only, removed when dropped.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("purlin-with-kvm-{}", std::process::id()));
        // Nobody else may connect to the sockets in it.
        DirBuilder::new().mode(0o700).create(&path).at("create", &path)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
