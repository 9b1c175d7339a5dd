//! The virtio console.

use board::BoardBuilder;
use legacy::Backend;
use virtio::Handle;
use virtio_console::{Console, Port};

use super::{BuildError, virtio as bus};
use crate::{
    config::{self, Config, Target},
    terminal,
};

/// A port of the console, and what is at its other end.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) label: &'static str,
    pub(super) name: Option<String>,
    pub(super) backend: Backend,
}

/// The size of the guest's terminal, when it is the terminal of this process. Clones are about the same.
#[derive(Clone, Debug)]
pub struct TerminalSize(Handle<Console>);

impl TerminalSize {
    /// Tells the guest the size that the terminal of this process has now, if it has one.
    pub fn follow(&self) {
        if let Some((cols, rows)) = terminal::size() {
            self.0.with(|console| console.resize(cols, rows));
        }
    }
}

/// Opens the ports that `config` names by `open`, which is given the label and target of each.
pub(super) fn open(
    config: &Config,
    mut open: impl FnMut(&'static str, &Target) -> Result<Option<Backend>, BuildError>,
) -> Result<Vec<Line>, BuildError> {
    let mut lines = Vec::new();
    for (index, console) in config.console.iter().enumerate() {
        let label = config::Console::label(index);
        if let Some(backend) = open(label, &console.target)? {
            lines.push(Line { label, name: console.name.clone(), backend });
        }
    }
    Ok(lines)
}

/// Attaches the console with `lines`, if there are any; gives the size of its terminal if that is ours.
pub(super) fn attach(
    board: &mut BoardBuilder,
    config: &Config,
    lines: &[Line],
) -> Result<Option<TerminalSize>, BuildError> {
    if lines.is_empty() {
        return Ok(None);
    }
    let ports = lines.iter().map(|line| match &line.name {
        Some(name) => Port::stream(line.backend.clone(), name),
        None => Port::console(line.backend.clone()),
    });
    let console = Console::new(ports.collect())?;
    let size = TerminalSize(bus::attach(board, config.transport(), "console", console)?);
    let ours = config.console.iter().any(|console| console.target == Target::Stdio);
    if ours {
        size.follow();
    }
    Ok(ours.then_some(size))
}
