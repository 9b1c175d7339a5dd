//! A command that runs in the guest's root: the guest's first program, in a file that only the guest
//! sees, and the ways by which it tells the exit status: another such file, and a port that ends the
//! machine at once. Not every kernel lets programs use ports; all can power off.

mod init;
mod program;

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

use board::BoardBuilder;
use device::{AccessError, Action, Attach, AttachError, MutBusDevice, Range, Wiring};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{Mode, fchmod},
    },
};
use vcpu::Stop;
use virtio_fs::Fs;

use super::BuildError;
use crate::config::Config;

/// The guest's first program, in the root.
const INIT: &str = ".purlin-init";
/// The file for its status, there too.
const STATUS: &str = ".purlin-status";
/// The port for its status: no device of a PC is there.
const PORT: u16 = 0x520;

/// The kernel's command line, with what it takes to find the root and the command.
pub(super) fn cmdline(config: &Config) -> String {
    let mut cmdline = config.cmdline.clone();
    let Some(root) = &config.root else { return cmdline };
    let access = if root.read_only { "ro" } else { "rw" };
    // Writing to a string does not fail.
    let _ = write!(cmdline, " root={} rootfstype=virtiofs {access}", Config::ROOT_TAG);
    if !config.command.is_empty() {
        let _ = write!(cmdline, " init=/{INIT}");
        if config.cmdline == Config::default().cmdline {
            // The output is the command's, and a kernel without root gives up.
            cmdline.push_str(" quiet panic=-1");
        }
    }
    cmdline
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub(super) struct Told(Arc<File>);

impl Told {
    /// Why the machine stopped: a command that has told its status has ended it, however.
    pub(super) fn ending(&self, stop: Stop) -> Stop {
        let mut status = [0];
        match (&stop, self.0.read_exact_at(&mut status, 0)) {
            (Stop::PowerOff | Stop::Reset, Ok(())) => Stop::Exit(u8::from_le_bytes(status)),
            _ => stop,
        }
    }
}

/// Adds the first program to `fs`, and the ways for its status.
pub(super) fn attach(
    board: &mut BoardBuilder,
    fs: Fs,
    command: &[String],
) -> Result<(Fs, Told), BuildError> {
    let make = || {
        let init = sealed(&init::program(command, (&format!("/{STATUS}"), PORT)))?;
        let status = memory(STATUS)?;
        let fs = fs.with_file(INIT, init)?.with_file(STATUS, status.try_clone()?)?;
        Ok((fs, Told(Arc::new(status))))
    };
    let made = make().map_err(BuildError::Command)?;
    board.attach("status", Status)?;
    Ok(made)
}

fn memory(name: &str) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(memfd_create(name, flags)?.into())
}

/// A program that cannot be changed.
fn sealed(content: &[u8]) -> io::Result<File> {
    let mut file = memory(INIT)?;
    file.write_all(content)?;
    fchmod(&file, Mode::from_bits_truncate(0o555))?;
    let all = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all))?;
    Ok(file)
}

/// Writing a byte to the port ends the run with it. Only machines with a command have it, because 0 is
/// among what it can say.
#[derive(Debug)]
struct Status;

impl Attach for Status {
    type Handle = ();

    fn attach(self, wiring: &mut dyn Wiring) -> Result<(), AttachError> {
        wiring.pio(Range::new(PORT, 1)?, Arc::new(Mutex::new(self)));
        Ok(())
    }
}

impl MutBusDevice for Status {
    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), AccessError> {
        Err(AccessError::NoRegister)
    }

    fn write(&mut self, _: u64, data: &[u8]) -> Result<Action, AccessError> {
        match data {
            [status] => Ok(Action::Exit(*status)),
            _ => Err(AccessError::Width),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use device::FakeWiring;

    use super::*;
    use crate::config::{Part, Root};

    #[test]
    fn any_status_can_be_told() {
        let mut wiring = FakeWiring::new().unwrap();
        wiring.attach(Status).unwrap();
        let ports = wiring.freeze().unwrap().pio;
        for status in [0, 1, 2, 255] {
            assert_eq!(ports.write(PORT, &[status]), Action::Exit(status));
        }
        assert_eq!(ports.write(PORT, &[0, 0]), Action::Continue);
    }

    fn with(list: Option<&str>, command: &[&str], cmdline: &str) -> String {
        super::cmdline(&Config {
            root: list.map(|list| Root::default().with(list).unwrap()),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            cmdline: cmdline.into(),
            ..Config::default()
        })
    }

    #[test]
    fn the_kernel_is_told_where_the_root_is_and_what_runs() {
        assert_eq!(with(None, &[], "a"), "a");
        let root = "root=purlin-root rootfstype=virtiofs";
        assert_eq!(with(Some("/r"), &[], "a"), format!("a {root} rw"));
        assert_eq!(with(Some("/r,read-only=on"), &[], "a"), format!("a {root} ro"));
        let init = "init=/.purlin-init";
        assert_eq!(with(Some("/r"), &["ls"], "a"), format!("a {root} rw {init}"));
        let console = "console=ttyS0";
        let quiet = format!("{console} {root} rw {init} quiet panic=-1");
        assert_eq!(with(Some("/r"), &["ls"], console), quiet);
    }

    #[test]
    fn a_status_in_the_file_counts_if_the_guest_ended_the_machine() {
        let told = Told(Arc::new(memory(STATUS).unwrap()));
        assert_eq!(told.ending(Stop::PowerOff), Stop::PowerOff);
        (&*told.0).write_all(&[9]).unwrap();
        assert_eq!(told.ending(Stop::PowerOff), Stop::Exit(9));
        assert_eq!(told.ending(Stop::Reset), Stop::Exit(9));
        assert_eq!(told.ending(Stop::Requested), Stop::Requested);
    }

    #[test]
    fn nobody_can_change_the_first_program() {
        let mut file = sealed(b"text").unwrap();
        assert!(file.write_all(b"more").is_err());
        assert!(file.set_len(0).is_err());
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}
