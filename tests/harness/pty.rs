//! A terminal with somebody at it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::termios::{LocalFlags, tcgetattr},
};

use crate::Purlin;

/// A pseudo-terminal: a process gets [`Pty::stdio`], the test types and reads its screen.
#[derive(Debug)]
pub struct Pty {
    master: File,
    path: PathBuf,
}

impl Pty {
    /// A fresh one, with the usual settings of a terminal.
    pub fn open() -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("the host has pseudo-terminals");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be unlocked");
        let path = ptsname_r(&master).expect("it has a name").into();
        Self { master: File::from(OwnedFd::from(master)), path }
    }

    /// A standard stream for a process.
    pub fn stdio(&self) -> Stdio {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
        options.open(&self.path).expect("the other end opens").into()
    }

    /// Types `keys`.
    pub fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("a terminal takes keys");
    }

    /// What the terminal shows, to be read.
    pub fn screen(&self) -> File {
        self.master.try_clone().expect("the host has descriptors")
    }

    /// Whether keys go to the process as they are typed, without echo, and none is a signal.
    pub fn is_raw(&self) -> bool {
        let settings = tcgetattr(&self.master).expect("a terminal has settings");
        let cooked = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        !settings.local_flags.intersects(cooked)
    }

    /// Runs the binary under test with `args` from a shell that has this as its controlling
    /// terminal, and that shows the settings before and after.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Purlin {
        let script = "stty -g; \"$@\"; status=$?; stty -g; exit $status";
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-c", script, "sh"]).arg(crate::binary()).args(args);
        Purlin::spawn_on(&mut command, self)
    }
}

/// The process id of the last process that `parent` started and that still runs.
pub fn child_of(parent: u32) -> u32 {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).expect("the process is there");
    let last = children.split_whitespace().last().expect("it has a child");
    last.parse().expect("process ids are numbers")
}
