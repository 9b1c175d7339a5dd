//! How large the terminal is.

use std::{io, os::fd::AsFd};

use rustix::termios::tcgetwinsize;

/// Columns and rows of the terminal that this process writes to, or else reads from; `None` if neither
/// is one, or it does not know.
pub fn size() -> Option<(u16, u16)> {
    of(io::stdout()).or_else(|| of(io::stdin()))
}

fn of(terminal: impl AsFd) -> Option<(u16, u16)> {
    let size = tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

#[cfg(test)]
mod tests {
    use nix::pty::{Winsize, openpty};

    use super::*;

    #[test]
    fn a_terminal_has_the_size_that_it_was_given() {
        let size = Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        assert_eq!(of(&pty.slave), Some((132, 50)));
    }

    #[test]
    fn what_is_no_terminal_has_no_size() {
        assert_eq!(of(std::fs::File::open("/dev/null").unwrap()), None);
        assert_eq!(of(openpty(None, None).unwrap().slave), None);
    }
}
