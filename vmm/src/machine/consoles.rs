//! What the machine's ports are connected to: opened once, kept over reboots.

use std::{io, path::PathBuf, sync::Arc};

use board::BoardBuilder;
use legacy::{Backend, Com, DebugPort, FileMode, Serial};

use virtio_vsock::Endpoint;

use super::{
    BuildError, TerminalSize, sockets,
    terminals::{self, Line},
};
use crate::config::{Config, Target};

/// The other ends of a machine's serial ports, consoles and sockets. A machine that boots again is
/// connected to the same ones, so that a pty keeps its path and a client its connection.
#[derive(Debug)]
pub struct Consoles {
    ports: Vec<(Com, &'static str, Backend)>,
    debug: Option<Backend>,
    lines: Vec<Line>,
    vsock: Option<Arc<Endpoint>>,
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
        let lines = terminals::open(config, &mut open)?;
        Ok(Self { ports, debug, lines, vsock: sockets::bind(config)? })
    }

    /// Where each console is that has a path of its own: ptys above all.
    pub fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        let path = |(_, name, backend): &(Com, &'static str, Backend)| {
            Some((*name, backend.path()?.to_owned()))
        };
        let lines = self.lines.iter();
        let lines = lines.filter_map(|line| Some((line.label, line.backend.path()?.to_owned())));
        self.ports.iter().filter_map(path).chain(lines).collect()
    }

    /// Gives `board` its virtio console.
    pub(super) fn attach_terminals(
        &self,
        board: &mut BoardBuilder,
        config: &Config,
    ) -> Result<Option<TerminalSize>, BuildError> {
        terminals::attach(board, config, &self.lines)
    }

    /// The socket on which host programs reach the guest.
    pub(super) fn vsock(&self) -> Option<Arc<Endpoint>> {
        self.vsock.clone()
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

impl Drop for Consoles {
    fn drop(&mut self) {
        // A machine that has ended may still be held by a thread of a vCPU, and its sockets with it.
        if let Some(endpoint) = &self.vsock {
            endpoint.close();
        }
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
