//! Directories of the host for the outer guest, by virtiofsd.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use super::process::{Process, bound, inherit};
use super::tail::Tail;
use crate::apt::Package;
use crate::error::{AtPath, Error, Result};
use crate::workspace::run;

/// virtiofsd, of which there are two: the older comes with QEMU, the newer by itself.
pub(crate) const VIRTIOFSD: Package = Package {
    names: &["virtiofsd", "qemu-system-common"],
    provides: &["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"],
};

/// A directory shared with the outer guest while this lives.
#[derive(Debug)]
pub(super) struct Share {
    /// The name by which the guest mounts it.
    pub tag: String,
    /// Where QEMU finds the server.
    pub socket: PathBuf,
    _server: Process,
}

impl Share {
    /// Shares `dir`, with the server's socket made in `sockets`. What the guest reads may be cached
    /// for ever if `constant`.
    pub(super) fn start(
        dir: &Path,
        tag: String,
        constant: bool,
        (sockets, tail): (&Path, &Tail),
    ) -> Result<Self> {
        let program = VIRTIOFSD.locate().ok_or_else(|| Error::new("there is no virtiofsd"))?;
        let socket = sockets.join(format!("{tag}.sock"));
        // Listening before the server runs: QEMU can connect at once.
        let listener = UnixListener::bind(&socket).at("make the socket", &socket)?;
        inherit(&listener)?;
        let mut command = if program.starts_with("/usr/lib/qemu") {
            older(&program, dir, constant)
        } else {
            newer(&program, dir, constant)
        };
        command.arg(format!("--fd={}", listener.as_raw_fd()));
        let server = Process::start(command, tail)?;
        Ok(Self { tag, socket, _server: server })
    }
}

/// The C program of QEMU until version 7. It insists on a sandbox, for which it must be root,
/// if only in a user namespace.
fn older(program: &Path, dir: &Path, constant: bool) -> Command {
    let mut command = if geteuid().is_root() {
        bound(program)
    } else {
        let mut command = bound("unshare");
        // Entering a namespace clears the death signal, so it is asked for once more.
        command.args([
            "--user",
            "--map-current-user",
            "--keep-caps",
            "--",
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
        ]);
        command.arg(program);
        command
    };
    let mut source = OsString::from("source=");
    source.push(dir);
    command.args(["-o", "sandbox=chroot", "-o", "announce_submounts"]);
    command
        .args(["-o", if constant { "cache=always" } else { "cache=auto" }])
        .arg("-o")
        .arg(source);
    command
}

/// The Rust program. It needs no privileges.
fn newer(program: &Path, dir: &Path, constant: bool) -> Command {
    let mut command = bound(program);
    command.arg("--shared-dir").arg(dir).args(["--sandbox", "none", "--announce-submounts"]);
    command.args(["--cache", if constant { "always" } else { "auto" }]);
    // The guest mounts it read-only in any case.
    let help = run(Command::new(program).arg("--help")).unwrap_or_default();
    if constant && String::from_utf8_lossy(&help).contains("--readonly") {
        command.arg("--readonly");
    }
    command
}
