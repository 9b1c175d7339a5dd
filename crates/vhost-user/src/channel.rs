//! The connection by which a back end has requests of its own.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::{
    BackendError,
    message::{self, HEADER},
    socket::{CUT, Piece, receive},
};

/// The longest body that a request can have, bytes.
const LONGEST: u32 = 4096;
/// How many requests are heeded at once. Nobody has as many.
const MOST: usize = 64;
/// The name of what comes here.
const REQUEST: &str = "a request of its own";

/// This end of the connection, which does not block.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
    /// What of the next message has come.
    buffer: Vec<u8>,
    /// What should not have come, to be closed with the connection.
    files: Vec<OwnedFd>,
}

impl Channel {
    /// A channel, and the back end's end of it.
    pub(crate) fn new() -> io::Result<(Self, UnixStream)> {
        let (stream, other) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        Ok((Self { stream, buffer: Vec::new(), files: Vec::new() }, other))
    }

    /// Reads what the back end has to say: whether its configuration space has changed. Other requests
    /// are refused.
    pub(crate) fn read(&mut self) -> Result<bool, BackendError> {
        let mut changed = false;
        for _ in 0..=MOST {
            match self.next()? {
                Some(code) => changed |= code == message::CONFIG_CHANGE,
                None => return Ok(changed),
            }
        }
        Err(nonsense(format!("more than {MOST} of them")))
    }

    /// The next request, if all of it is there.
    fn next(&mut self) -> Result<Option<u32>, BackendError> {
        if !self.fill(HEADER)? {
            return Ok(None);
        }
        let header = self.buffer.first_chunk().and_then(message::request);
        let Some((code, heard, len)) = header.filter(|(_, _, len)| *len <= LONGEST) else {
            return Err(nonsense("no header of a request".into()));
        };
        if !self.fill(HEADER + usize::try_from(len).unwrap_or(usize::MAX))? {
            return Ok(None);
        }
        self.buffer.clear();
        if heard {
            let failed = u64::from(code != message::CONFIG_CHANGE);
            let answer = message::acknowledge(code, failed);
            // It fits, unless nobody reads.
            let sent = self.stream.send_with_fds(&[&answer[..]], &[]);
            if sent.ok() != Some(answer.len()) {
                return Err(nonsense("nobody who reads the answer".into()));
            }
        }
        Ok(Some(code))
    }

    /// Whether `len` bytes of the next message are there.
    fn fill(&mut self, len: usize) -> Result<bool, BackendError> {
        while self.buffer.len() < len {
            let mut bytes = [0; 256];
            let room = bytes.len().min(len - self.buffer.len());
            let Some(room) = bytes.get_mut(..room) else { break };
            match receive(&self.stream, room, &mut self.files) {
                Ok(Piece { cut: true, .. }) => return Err(nonsense(CUT.into())),
                // No request has any that is made without BACKEND_SEND_FD, which was not agreed on.
                Ok(_) if !self.files.is_empty() => {
                    return Err(nonsense("a file descriptor".into()));
                }
                Ok(Piece { count: 0, .. }) => return Err(BackendError::Closed { request: None }),
                Ok(Piece { count, .. }) => {
                    self.buffer.extend_from_slice(room.get(..count).unwrap_or_default());
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Ok(false),
                    _ => return Err(BackendError::Io { request: REQUEST, source: error }),
                },
            }
        }
        Ok(true)
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

fn nonsense(what: String) -> BackendError {
    BackendError::Nonsense { request: REQUEST, what }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::message::words;

    #[test]
    fn a_change_of_the_configuration_is_heard_and_answered() {
        let (mut channel, mut other) = Channel::new().unwrap();
        assert!(!channel.read().unwrap());
        other.write_all(&words(&[2, 9, 0])).unwrap();
        assert!(channel.read().unwrap());
        let mut answer = [0; 20];
        other.read_exact(&mut answer).unwrap();
        assert_eq!(message::numbers(&answer), [2, 5, 8, 0, 0]);
    }

    #[test]
    fn a_request_in_pieces_is_heard_when_it_is_whole() {
        let (mut channel, mut other) = Channel::new().unwrap();
        let message = words(&[2, 1, 8, 0, 0]);
        for byte in &message {
            assert!(!channel.read().unwrap());
            other.write_all(&[*byte]).unwrap();
        }
        assert!(channel.read().unwrap());
    }

    #[test]
    fn another_request_is_refused() {
        let (mut channel, mut other) = Channel::new().unwrap();
        other.write_all(&words(&[3, 9, 4, 7])).unwrap();
        assert!(!channel.read().unwrap());
        let mut answer = [0; 20];
        other.read_exact(&mut answer).unwrap();
        assert_eq!(message::numbers(&answer), [3, 5, 8, 1, 0]);
    }

    #[test]
    fn a_file_that_comes_along_is_an_error() {
        let (mut channel, other) = Channel::new().unwrap();
        let change = words(&[2, 1, 0]);
        other.send_with_fd(&change[..], other.as_raw_fd()).unwrap();
        assert!(matches!(channel.read(), Err(BackendError::Nonsense { .. })));
        assert_eq!(channel.files.len(), 1);
    }

    #[test]
    fn nonsense_is_an_error() {
        for wrong in [[2, 5, 0], [2, 0, 0], [2, 1, 5000], [2, 1, u32::MAX]] {
            let (mut channel, mut other) = Channel::new().unwrap();
            other.write_all(&words(&wrong)).unwrap();
            assert!(channel.read().is_err(), "{wrong:?}");
        }
        let (mut channel, mut other) = Channel::new().unwrap();
        other.write_all(&words(&[2, 1, 0]).repeat(100)).unwrap();
        assert!(channel.read().is_err(), "too many");
        let (mut channel, _) = Channel::new().unwrap();
        assert!(matches!(channel.read(), Err(BackendError::Closed { .. })));
    }
}
