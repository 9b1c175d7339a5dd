//! Keys that are for the VMM.

use std::{
    fmt,
    io::{self, IsTerminal, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

/// Ctrl-A.
const PREFIX: u8 = 1;

/// What a user asked the VMM for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Escape {
    /// Ctrl-A x: end the run.
    Quit,
    /// Ctrl-A d: press Ctrl, Alt and Delete.
    CtrlAltDel,
    /// Ctrl-A h: say what the keys are.
    Help,
}

/// Takes the keys that are for the VMM out of an input: Ctrl-A x ends the run, Ctrl-A d
/// presses Ctrl-Alt-Del, Ctrl-A h asks for help, Ctrl-A Ctrl-A and Ctrl-A a send one Ctrl-A to the guest. Ctrl-A before any other key goes
/// to the guest with it.
///
/// Only a terminal has such keys. From a file or a pipe every byte goes to the guest, so that what
/// a program sends is never taken for a command.
///
/// A read that found keys for the VMM and nothing else fails with
/// [`WouldBlock`](io::ErrorKind::WouldBlock), because `Ok(0)` would be the end of the input. Buffers
/// of at least two bytes never leave a byte behind for the next read.
pub struct EscapeFilter<R, F> {
    input: R,
    active: bool,
    /// A Ctrl-A was read, and not yet what follows it.
    prefixed: bool,
    /// A byte that the last buffer had no room for.
    left: Option<u8>,
    escape: F,
}

impl<R: Read + AsFd, F: FnMut(Escape)> EscapeFilter<R, F> {
    /// Filters `input` if it is a terminal. `escape` is called by the thread that reads.
    pub fn new(input: R, escape: F) -> Self {
        let active = input.as_fd().is_terminal();
        Self { input, active, prefixed: false, left: None, escape }
    }
}

impl<R, F: FnMut(Escape)> EscapeFilter<R, F> {
    /// What goes to the guest because of `byte`: at most two bytes.
    fn take(&mut self, byte: u8) -> [Option<u8>; 2] {
        if !std::mem::take(&mut self.prefixed) {
            self.prefixed = byte == PREFIX;
            return [(byte != PREFIX).then_some(byte), None];
        }
        match byte {
            b'x' | b'X' => (self.escape)(Escape::Quit),
            b'd' | b'D' => (self.escape)(Escape::CtrlAltDel),
            b'h' | b'H' | b'?' => (self.escape)(Escape::Help),
            b'a' | PREFIX => return [Some(PREFIX), None],
            other => return [Some(PREFIX), Some(other)],
        }
        [None, None]
    }
}

impl<R: Read, F: FnMut(Escape)> Read for EscapeFilter<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.active || buffer.is_empty() {
            return self.input.read(buffer);
        }
        if let (Some(byte), Some(first)) = (self.left.take(), buffer.first_mut()) {
            *first = byte;
            return Ok(1);
        }
        // One byte of room: a Ctrl-A of the read before may come out in front of all of this one.
        let room = (buffer.len() - 1).clamp(1, 256);
        let mut keys = [0; 256];
        let read = self.input.read(keys.get_mut(..room).unwrap_or_default())?;
        if read == 0 {
            return Ok(0);
        }
        let mut len = 0;
        for key in keys.into_iter().take(read) {
            for byte in self.take(key).into_iter().flatten() {
                match buffer.get_mut(len) {
                    Some(slot) => {
                        *slot = byte;
                        len += 1;
                    }
                    None => self.left = Some(byte),
                }
            }
        }
        if len == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(len) }
    }
}

impl<R: AsFd, F> AsFd for EscapeFilter<R, F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}

impl<R: AsRawFd, F> AsRawFd for EscapeFilter<R, F> {
    fn as_raw_fd(&self) -> RawFd {
        self.input.as_raw_fd()
    }
}

impl<R: fmt::Debug, F> fmt::Debug for EscapeFilter<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, active, prefixed, left, .. } = self;
        f.debug_struct("EscapeFilter")
            .field("input", input)
            .field("active", active)
            .field("prefixed", prefixed)
            .field("left", left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use nix::{
        pty::openpty,
        sys::termios::{self, SetArg},
    };

    use super::*;

    /// Feeds each of `reads` to a filter through a raw pty; what the guest gets, read into buffers
    /// of `room` bytes, and what the VMM is asked for.
    fn type_keys(reads: &[&[u8]], room: usize) -> (Vec<u8>, Vec<Escape>) {
        let pty = openpty(None, None).unwrap();
        let mut settings = termios::tcgetattr(&pty.slave).unwrap();
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
        let mut keyboard = File::from(pty.master);
        let mut escapes = Vec::new();
        let mut filter = EscapeFilter::new(File::from(pty.slave), |escape| escapes.push(escape));
        let mut guest = Vec::new();
        for keys in reads {
            keyboard.write_all(keys).unwrap();
            let mut buffer = vec![0; room];
            match filter.read(&mut buffer) {
                Ok(len) => guest.extend(&buffer[..len]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        (guest, escapes)
    }

    #[test]
    fn keys_without_ctrl_a_go_to_the_guest() {
        assert_eq!(type_keys(&[b"ls\r\x03"], 16), (b"ls\r\x03".into(), vec![]));
    }

    #[test]
    fn ctrl_a_with_x_d_or_h_is_for_the_vmm() {
        assert_eq!(
            type_keys(&[b"a\x01hb", b"\x01d\x01x"], 16),
            (b"ab".into(), vec![Escape::Help, Escape::CtrlAltDel, Escape::Quit])
        );
    }

    #[test]
    fn ctrl_a_twice_and_ctrl_a_a_are_one_ctrl_a_for_the_guest() {
        assert_eq!(type_keys(&[b"\x01\x01\x01a"], 16), (b"\x01\x01".into(), vec![]));
    }

    #[test]
    fn ctrl_a_before_another_key_goes_to_the_guest_with_it() {
        assert_eq!(type_keys(&[b"\x01kx"], 16), (b"\x01kx".into(), vec![]));
    }

    #[test]
    fn a_ctrl_a_is_remembered_from_one_read_to_the_next() {
        assert_eq!(type_keys(&[b"\x01", b"x"], 16), (vec![], vec![Escape::Quit]));
        assert_eq!(type_keys(&[b"\x01", b"k"], 16), (b"\x01k".into(), vec![]));
    }

    #[test]
    fn a_buffer_of_one_byte_loses_nothing() {
        assert_eq!(type_keys(&[b"\x01", b"k", b"m", b"n"], 1), (b"\x01km".into(), vec![]));
    }

    #[test]
    fn a_pipe_has_no_such_keys() {
        let (input, mut sender) = std::io::pipe().unwrap();
        sender.write_all(b"\x01x").unwrap();
        let mut filter = EscapeFilter::new(input, |escape| panic!("{escape:?} from a pipe"));
        let mut buffer = [0; 8];
        assert_eq!(filter.read(&mut buffer).unwrap(), 2);
        assert_eq!(&buffer[..2], b"\x01x");
    }

    #[test]
    fn the_end_of_the_input_is_passed_on() {
        let (input, sender) = std::io::pipe().unwrap();
        drop(sender);
        let mut filter = EscapeFilter::new(input, |_| ());
        assert_eq!(filter.read(&mut [0; 8]).unwrap(), 0);
    }
}
