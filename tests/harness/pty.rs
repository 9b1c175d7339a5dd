//! A terminal with somebody at it.

use std::{
    fs::File,
    io::Write,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    process::Stdio,
};

use nix::{
    fcntl::OFlag,
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
};

/// A pseudo-terminal: a process gets [`Pty::stdio`], the test types and looks at its settings.
#[derive(Debug)]
pub struct Pty {
    master: PtyMaster,
    path: PathBuf,
}

impl Pty {
    /// A fresh one, with the usual settings of a terminal.
    pub fn open() -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("the host has pseudo-terminals");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be unlocked");
        let path = ptsname_r(&master).expect("it has a name").into();
        Self { master, path }
    }

    /// A standard stream for a process.
    pub fn stdio(&self) -> Stdio {
        open(&self.path).into()
    }

    /// Types `keys`.
    pub fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("a terminal takes keys");
    }

    /// What the terminal shows, to be read.
    pub fn screen(&self) -> File {
        let copy: &OwnedFd = &self.master.try_clone_to_file();
        File::from(copy.try_clone().expect("the host has descriptors"))
    }

    /// Whether keys go to the process as they are typed, without echo, and none is a signal.
    pub fn is_raw(&self) -> bool {
        let cooked = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        !self.settings().local_flags.intersects(cooked)
    }

    /// The settings at present.
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.master).expect("a terminal has settings")
    }
}
