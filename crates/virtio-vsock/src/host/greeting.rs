//! What a host program says first: `CONNECT <port>`, a line.

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
};

use nix::sys::socket::{MsgFlags, recv};

/// The longest line, with its end. `CONNECT 4294967295` has 18 bytes.
const LINE: usize = 32;

/// A host program that has connected, up to the end of its first line. What follows the line stays in
/// the socket.
#[derive(Debug)]
pub(crate) struct Greeting {
    line: [u8; LINE],
    len: usize,
}

/// What was heard so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The line has no end yet.
    Part,
    /// It wants to talk to this port of the guest.
    Connect(u32),
    /// It has gone, or says something else.
    Nonsense,
}

impl Greeting {
    pub(crate) fn new() -> Self {
        Self { line: [0; LINE], len: 0 }
    }

    /// Takes what `socket` has of the line.
    pub(crate) fn hear(&mut self, socket: &UnixStream) -> Heard {
        loop {
            match self.next(socket) {
                Ok(Some(heard)) => return heard,
                Ok(None) => {}
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Heard::Part,
                Err(_) => return Heard::Nonsense,
            }
        }
    }

    fn next(&mut self, socket: &UnixStream) -> nix::Result<Option<Heard>> {
        let Some(room) = self.line.get_mut(self.len..).filter(|room| !room.is_empty()) else {
            return Ok(Some(Heard::Nonsense));
        };
        // Looked at before it is taken: what follows the line is the guest's.
        let there = recv(socket.as_raw_fd(), room, MsgFlags::MSG_PEEK)?;
        let seen = room.get(..there).unwrap_or_default();
        let end = seen.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(there, |end| end + 1);
        if count == 0 {
            return Ok(Some(Heard::Nonsense));
        }
        let taken =
            recv(socket.as_raw_fd(), room.get_mut(..count).unwrap_or_default(), MsgFlags::empty())?;
        self.len += taken;
        Ok((end.is_some() && taken == count).then(|| self.parse()))
    }

    fn parse(&self) -> Heard {
        let line = self.line.get(..self.len).unwrap_or_default();
        let mut words = line.trim_ascii_end().splitn(2, |byte| *byte == b' ');
        let connect = words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"connect"));
        let port = words.next().and_then(|port| std::str::from_utf8(port).ok());
        let digits = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.filter(digits).and_then(|port| port.parse().ok());
        port.filter(|_| connect).map_or(Heard::Nonsense, Heard::Connect)
    }
}

/// Tells the host program that the guest has accepted. It has read nothing yet, so there is room.
pub(crate) fn accept(socket: &UnixStream, port: u32) -> io::Result<()> {
    use io::Write;
    let mut line = [0; LINE];
    let mut rest = line.as_mut_slice();
    writeln!(rest, "OK {port}")?;
    let left = rest.len();
    let mut socket = socket;
    socket.write_all(line.get(..LINE - left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (host, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (host, ours)
    }

    fn heard(said: &[u8]) -> Heard {
        let (mut host, ours) = pair();
        host.write_all(said).unwrap();
        Greeting::new().hear(&ours)
    }

    #[test]
    fn a_port_is_heard_in_one_piece_or_in_many() {
        assert_eq!(heard(b"CONNECT 52\n"), Heard::Connect(52));
        assert_eq!(heard(b"connect 4294967295\r\n"), Heard::Connect(u32::MAX));
        let (mut host, ours) = pair();
        let mut greeting = Greeting::new();
        for byte in b"CONNECT 7" {
            assert_eq!(greeting.hear(&ours), Heard::Part);
            host.write_all(&[*byte]).unwrap();
        }
        assert_eq!(greeting.hear(&ours), Heard::Part);
        host.write_all(b"\n").unwrap();
        assert_eq!(greeting.hear(&ours), Heard::Connect(7));
    }

    #[test]
    fn what_follows_the_line_stays_in_the_socket() {
        let (mut host, mut ours) = pair();
        host.write_all(b"CONNECT 52\nthis is for the guest, and longer than a line").unwrap();
        assert_eq!(Greeting::new().hear(&ours), Heard::Connect(52));
        let mut rest = [0; 4];
        ours.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"this");
    }

    #[test]
    fn anything_else_is_nonsense() {
        let nonsense: [&[u8]; 11] = [
            b"\n",
            b"CONNECT\n",
            b"CONNECT \n",
            b"CONNECT x\n",
            b"CONNECT -1\n",
            b"CONNECT +1\n",
            b"CONNECT 4294967296\n",
            b"CONNECT 1 2\n",
            b"DISCONNECT 1\n",
            b"GET / HTTP/1.1 and so on for ever",
            b"CONNECT \xff\xfe\n",
        ];
        for said in nonsense {
            assert_eq!(heard(said), Heard::Nonsense, "{said:?}");
        }
    }

    #[test]
    fn who_goes_without_a_word_is_nonsense() {
        let (host, ours) = pair();
        drop(host);
        assert_eq!(Greeting::new().hear(&ours), Heard::Nonsense);
    }

    #[test]
    fn acceptance_is_a_line_with_the_port_of_the_host() {
        let (mut host, ours) = pair();
        accept(&ours, u32::MAX).unwrap();
        drop(ours);
        let mut said = String::new();
        host.read_to_string(&mut said).unwrap();
        assert_eq!(said, "OK 4294967295\n");
    }
}
