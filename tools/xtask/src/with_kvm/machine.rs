//! The outer guest: a PC emulated by QEMU whose CPU has SVM.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use super::process::{Process, bound, inherit};
use super::share::Share;
use super::size::Size;
use super::tail::Tail;
use crate::apt::Package;
use crate::error::{Context, Result};

/// The emulator.
pub(super) const QEMU: Package =
    Package { names: &["qemu-system-x86"], provides: &["qemu-system-x86_64"] };

/// AMD, because only SVM is emulated. EPYC, because `max` has features of Intel that make kernels
/// take other paths than on any real machine with SVM.
const CPU: &str = "EPYC,+svm,+npt";

/// No device that nobody uses: each costs the guest's kernel milliseconds to probe.
const DEVICES: &str = "q35,sata=off,smbus=off,usb=off,hpet=off,memory-backend=memory";

/// What an outer guest is made of.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    pub memory: Size,
    pub cpus: u8,
    pub shares: &'a [Share],
    pub terminal: bool,
    pub verbose: bool,
}

/// This side's ends of the running guest's streams.
#[derive(Debug)]
pub(super) struct Streams {
    pub control: UnixStream,
    pub stdin: UnixStream,
    pub stdout: UnixStream,
    pub stderr: UnixStream,
    /// What the command's terminal shows and is sent.
    pub terminal: Option<UnixStream>,
}

impl Machine<'_> {
    /// Starts the guest. Its kernel's console goes to `tail`.
    pub(super) fn start(&self, tail: &Tail) -> Result<(Process, Streams)> {
        let mut command = self.command();
        let mut theirs = Vec::new();
        let mut stream = |name: &str| {
            let (ours, other) = UnixStream::pair().context(|| "cannot make a socket".to_owned())?;
            inherit(&other)?;
            command.arg("-chardev").arg(format!("socket,id={name},fd={}", other.as_raw_fd()));
            // Kept open until the guest has started, so that its numbers stay what was said.
            theirs.push(other);
            Ok(ours)
        };
        let console = stream("console")?;
        let streams = Streams {
            control: stream("control")?,
            stdin: stream("stdin")?,
            stdout: stream("stdout")?,
            stderr: stream("stderr")?,
            terminal: self.terminal.then(|| stream("terminal")).transpose()?,
        };
        command.args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
        if self.terminal {
            command.args(["-device", "virtconsole,chardev=terminal"]);
        }
        for name in ["stdin", "stdout", "stderr", "control"] {
            let port = format!("virtserialport,chardev={name},name=purlin.{name}");
            command.arg("-device").arg(port);
        }
        let process = Process::start(command, tail)?;
        tail.follow(console);
        Ok((process, streams))
    }

    fn command(&self) -> Command {
        let mut command = bound("qemu-system-x86_64");
        let memory = self.memory.qemu();
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-M", DEVICES, "-accel", "tcg,thread=multi", "-cpu", CPU])
            .args(["-smp", &self.cpus.to_string(), "-m", &memory, "-object"])
            .arg(format!("memory-backend-memfd,id=memory,size={memory},share=on"))
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", &self.command_line()]);
        for share in self.shares {
            let Share { tag, socket, .. } = share;
            // A comma would end the value, and is doubled.
            let path = socket.to_string_lossy().replace(',', ",,");
            command.arg("-chardev").arg(format!("socket,id={tag},path={path}"));
            command.arg("-device").arg(format!("vhost-user-fs-pci,chardev={tag},tag={tag}"));
        }
        command
    }

    fn command_line(&self) -> String {
        let level = if self.verbose { "" } else { " quiet" };
        format!(
            "console=ttyS0 8250.nr_uarts=1 mitigations=off audit=0 tsc=reliable panic=-1{level}"
        )
    }
}
