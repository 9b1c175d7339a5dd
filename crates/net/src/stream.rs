//! Packets on a stream socket, each after its length: what QEMU calls `-netdev stream`, and passt
//! speaks.

use std::{
    fmt,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv, sendmsg, setsockopt, sockopt},
};

use crate::{Abilities, Link, MAX_PACKET, MIN_PACKET, Offloads};

/// Size of the length in front of each packet: big endian.
const PREFIX: usize = 4;
/// Room for what has come: two of the largest packets, so that one call can fetch many small ones.
const ROOM: usize = 2 * (PREFIX + MAX_PACKET);

/// How many bytes a socket should hold on their way, if the host allows it: TCP in full flight, because
/// peers such as passt drop what does not fit.
const BUFFER: usize = 4 << 20;

/// Lets `socket` hold more bytes on their way out than it does by default.
pub(crate) fn widen(socket: &UnixStream) {
    let forced = setsockopt(socket, sockopt::SndBufForce, &BUFFER); // takes CAP_NET_ADMIN
    if let Err(error) = forced.or_else(|_| setsockopt(socket, sockopt::SndBuf, &BUFFER)) {
        log::debug!("a network socket stays narrow: {error}"); // it works too, only slower
    }
}

/// A peer at the other end of a unix stream socket. Each packet goes after its length, as 32 bits in
/// big endian.
///
/// The peer is not trusted: a length that no packet has takes the link down, as the end of the
/// connection does.
pub struct Stream {
    socket: UnixStream,
    room: Box<[u8]>,
    /// What has come and was not popped: from where to where in `room`.
    start: usize,
    end: usize,
    /// The rest of a packet that the socket took only in part; at most one packet long.
    rest: Vec<u8>,
    gone: usize,
    up: bool,
}

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Nobody listens there.
    #[error(
        "cannot connect to the network socket {path:?}; a program that serves `-netdev stream`, such \
         as passt, must listen there"
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The socket cannot be used.
    #[error("the socket of a network cannot be used")]
    Socket(#[source] io::Error),
}

impl Stream {
    /// The peer at the other end of `socket`.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn new(socket: UnixStream) -> Result<Self, StreamError> {
        socket.set_nonblocking(true).map_err(StreamError::Socket)?;
        widen(&socket);
        let room = vec![0; ROOM].into_boxed_slice();
        let rest = Vec::with_capacity(PREFIX + MAX_PACKET);
        Ok(Self { socket, room, start: 0, end: 0, rest, gone: 0, up: true })
    }

    /// The peer that listens at `path`.
    ///
    /// # Errors
    /// None does, or this process may not connect to it.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, StreamError> {
        let path = path.as_ref();
        let failed = |source| StreamError::Connect { path: path.into(), source };
        Self::new(UnixStream::connect(path).map_err(failed)?)
    }

    fn is_blocked(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.rest.get(self.gone..).filter(|rest| !rest.is_empty()) {
            match transmit(&self.socket, &[IoSlice::new(rest)]) {
                Ok(sent) => self.gone += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(self.down(error)),
            }
        }
        self.rest.clear();
        self.gone = 0;
        Ok(false)
    }

    /// Length of the packet that begins at `start`; `None` if too little of it has come.
    fn complete(&self) -> Result<Option<usize>, u32> {
        let come = self.room.get(self.start..self.end).unwrap_or_default();
        let Some((prefix, packet)) = come.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let told = u32::from_be_bytes(*prefix);
        let len = usize::try_from(told).map_err(|_| told)?;
        if len == 0 || len > MAX_PACKET {
            return Err(told);
        }
        Ok((packet.len() >= len).then_some(len))
    }

    /// Reads as much as there is and fits.
    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.room.len() - self.start < PREFIX + MAX_PACKET {
            // The packet that has begun might not fit behind.
            self.room.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let free = self.room.get_mut(self.end..).unwrap_or_default();
        match recv(self.socket.as_raw_fd(), free, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Err(self.down(io::ErrorKind::NotConnected.into())),
            Ok(come) => {
                self.end += come;
                Ok(())
            }
            Err(Errno::EINTR) => Ok(()),
            Err(Errno::EAGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(self.down(error.into())),
        }
    }

    fn down(&mut self, why: io::Error) -> io::Error {
        if self.up {
            log::warn!("a network socket goes down: {why}");
            // The peer is to know as well.
            drop(self.socket.shutdown(std::net::Shutdown::Both));
        }
        self.up = false;
        (self.start, self.end, self.gone) = (0, 0, 0);
        self.rest.clear();
        why
    }
}

/// Sends without a signal if nobody reads.
fn transmit(socket: &UnixStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), parts, &[], flags, None) {
            Err(Errno::EINTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

impl Link for Stream {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        if offloads == Offloads::NONE { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    fn peek(&mut self) -> io::Result<&[u8]> {
        loop {
            if !self.up {
                return Err(io::ErrorKind::NotConnected.into());
            }
            match self.complete() {
                Ok(None) => self.fill()?,
                Ok(Some(len)) => {
                    let start = self.start + PREFIX;
                    return Ok(self.room.get(start..start + len).unwrap_or_default());
                }
                Err(len) => {
                    let why = format!("a packet of {len} bytes; one has 1 to {MAX_PACKET}");
                    return Err(self.down(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
            }
        }
    }

    fn pop(&mut self) {
        if let Ok(Some(len)) = self.complete() {
            self.start += PREFIX + len;
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        if !self.up {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if packet.len() < MIN_PACKET || packet.len() > MAX_PACKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.is_blocked()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let prefix = u32::try_from(packet.len()).unwrap_or(0).to_be_bytes();
        let sent = match transmit(&self.socket, &[IoSlice::new(&prefix), IoSlice::new(packet)]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => return Err(self.down(error)),
        };
        // The stream has no way back: what it did not take now goes before anything else.
        self.rest.extend_from_slice(prefix.get(sent..).unwrap_or_default());
        self.rest.extend_from_slice(packet.get(sent.saturating_sub(PREFIX)..).unwrap_or_default());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_blocked()? { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn is_up(&self) -> bool {
        self.up
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("socket", &self.socket)
            .field("come", &(self.end - self.start))
            .field("rest", &(self.rest.len() - self.gone))
            .field("up", &self.up)
            .finish_non_exhaustive()
    }
}
