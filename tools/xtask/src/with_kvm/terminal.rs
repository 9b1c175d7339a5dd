//! This process's terminal, when the command is to have it.

use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Error, Result};

/// The terminal passes every key on while this lives, and is as before afterwards.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    /// Switches the terminal.
    pub(super) fn enter() -> Result<Self> {
        if !io::stdin().is_terminal() {
            return Err(Error::new("--tty needs a terminal as standard input"));
        }
        let context = || "cannot switch the terminal".to_owned();
        let before = tcgetattr(io::stdin()).context(context)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).context(context)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nobody is left to tell if it fails.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// `rows columns` of the terminal.
pub(super) fn size() -> String {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() || text.starts_with("0 ") { "24 80".to_owned() } else { text }
}
