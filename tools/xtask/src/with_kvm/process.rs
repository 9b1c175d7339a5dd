//! Programs that must not outlive this one.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::tail::Tail;
use crate::error::{Context, Result};

/// A command whose process the kernel kills when this process ends, however that happens.
///
/// In a process group of its own, so that a Ctrl-C of the terminal is this process's to handle.
pub(super) fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).process_group(0);
    command
}

/// Lets programs started from now on inherit a file descriptor.
pub(super) fn inherit(fd: impl AsFd) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))
        .map(drop)
        .context(|| "cannot pass on a file descriptor".to_owned())
}

/// A running program; dropping it kills it and what it started.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Starts the program without input, with all that it says going to `tail`.
    pub(super) fn start(mut command: Command, tail: &Tail) -> Result<Self> {
        let name = command.get_args().nth(3).unwrap_or_default().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| format!("cannot start {name} by setpriv"))?;
        if let Some(output) = child.stdout.take() {
            tail.follow(output);
        }
        if let Some(output) = child.stderr.take() {
            tail.follow(output);
        }
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already; waiting is right in either case.
        if let Ok(id) = i32::try_from(self.0.id()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}
