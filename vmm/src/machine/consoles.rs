//! What the machine's ports are connected to: opened once, kept over reboots.

use std::{io, path::PathBuf};

use board::BoardBuilder;
use legacy::{Backend, Com, DebugPort, FileMode, Serial};

use super::BuildError;
use crate::config::{Config, Target};

/// The other ends of a machine's serial ports and debug console. A machine that boots again is
/// connected to the same ones, so that a pty keeps its path and a client its connection.
#[derive(Debug)]
pub struct Consoles {
    ports: Vec<(Com, &'static str, Backend)>,
    debug: Option<Backend>,
}

impl Consoles {
    /// Opens what `config` names; `stdio` is what its target `stdio` means.
    ///
    /// # Errors
    /// A file, socket or pty cannot be opened.
    pub fn open(config: &Config, stdio: Backend) -> Result<Self, BuildError> {
        let mut stdio = Some(stdio);
        let mut open = |port: &str, target: &Target| {
            let failed = |source| BuildError::Console {
                port: port.to_owned(),
                target: target.to_string(),
                source,
            };
            connect(target, &mut stdio).map_err(failed)
        };
        let coms = [Com::Com1, Com::Com2, Com::Com3, Com::Com4];
        let mut ports = Vec::new();
        for (com, (name, target)) in coms.into_iter().zip(config.serial.ports()) {
            if let Some(backend) = open(name, target)? {
                ports.push((com, name, backend));
            }
        }
        let debug = open("the debug console", &config.debug_console)?;
        Ok(Self { ports, debug })
    }

    /// Where each console is that has a path of its own: ptys above all.
    pub fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        let path = |(_, name, backend): &(Com, &'static str, Backend)| {
            Some((*name, backend.path()?.to_owned()))
        };
        self.ports.iter().filter_map(path).collect()
    }

    /// Gives `board` its ports.
    pub(super) fn attach(&self, board: &mut BoardBuilder) -> Result<(), BuildError> {
        for (com, name, backend) in &self.ports {
            board.attach(name, Serial::new(*com, backend.clone()))?;
        }
        if let Some(backend) = &self.debug {
            board.attach("debugcon", DebugPort::bochs(backend.output()))?;
            board.attach("seabios-debug", DebugPort::seabios(backend.output()))?;
        }
        Ok(())
    }
}

fn connect(target: &Target, stdio: &mut Option<Backend>) -> io::Result<Option<Backend>> {
    Ok(Some(match target {
        Target::None => return Ok(None),
        Target::Stdio => {
            let taken = || io::Error::other("standard input and output are in use already");
            stdio.take().ok_or_else(taken)?
        }
        Target::Pty => Backend::pty()?,
        Target::File { path, append: true } => Backend::file(path, FileMode::Append)?,
        Target::File { path, append: false } => Backend::file(path, FileMode::Truncate)?,
        Target::Unix(path) => Backend::unix_socket(path)?,
    }))
}
