//! The connection to a back end: messages with file descriptors, and never a wait without an end.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
};
use rustix::{
    cmsg_space,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg},
};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::{
    BackendError,
    message::{self, HEADER, Request},
    patience::{PATIENCE, Patience},
};

/// As many file descriptors as can come with a message.
const MOST_FILES: usize = 253;

/// A connection. It blocks no longer than there is [`Patience`].
#[derive(Debug)]
pub(crate) struct Socket {
    stream: UnixStream,
    pub(crate) patience: Patience,
    /// What came with the last message; what should not have come is not closed before the connection.
    files: Vec<OwnedFd>,
}

impl Socket {
    /// Connects to whoever listens at `path`. One that has too many waiting already counts as absent.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self::new(UnixStream::from(fd)))
    }

    /// A connection over `stream`, which does not block.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, patience: Patience::new(Instant::now()), files: Vec::new() }
    }

    /// Sends a request.
    pub(crate) fn send(
        &mut self,
        request: Request,
        message: &[u8],
        fds: &[RawFd],
    ) -> Result<(), BackendError> {
        let (mut rest, mut fds) = (message, fds);
        while !rest.is_empty() {
            match self.stream.send_with_fds(&[rest], fds) {
                Ok(sent) => (rest, fds) = (rest.get(sent..).unwrap_or_default(), &[]),
                Err(error) => self.overcome(request, error.into(), PollFlags::POLLOUT)?,
            }
        }
        Ok(())
    }

    /// The answer to `request`, which has `len` bytes after its header, and so many files with it.
    pub(crate) fn answer(
        &mut self,
        request: Request,
        len: usize,
        files: usize,
    ) -> Result<Vec<u8>, BackendError> {
        let nonsense = |what| BackendError::Nonsense { request: request.1, what };
        let mut header = [0; HEADER];
        self.fill(request, &mut header)?;
        let found = message::answer(request, &header).map_err(nonsense)?;
        if found == 0 && len > 0 {
            return Err(BackendError::Refused { request: request.1 });
        }
        if usize::try_from(found) != Ok(len) {
            return Err(nonsense(format!("{found} bytes; it should be {len}")));
        }
        let mut body = vec![0; len];
        self.fill(request, &mut body)?;
        if self.files.len() != files {
            let found = self.files.len();
            return Err(nonsense(format!("{found} file descriptors; it should be {files}")));
        }
        self.patience.answered();
        Ok(body)
    }

    /// The file that came with the last answer.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.files.last().map(AsFd::as_fd)
    }

    /// The same, for good.
    pub(crate) fn take_file(&mut self) -> Option<OwnedFd> {
        self.files.pop()
    }

    /// Receives until `bytes` is full.
    fn fill(&mut self, request: Request, bytes: &mut [u8]) -> Result<(), BackendError> {
        let nonsense =
            |what: &str| BackendError::Nonsense { request: request.1, what: what.into() };
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match receive(&self.stream, rest, &mut self.files) {
                Ok(Piece { cut: true, .. }) => return Err(nonsense(CUT)),
                Ok(Piece { count: 0, .. }) => {
                    return Err(BackendError::Closed { request: Some(request.1) });
                }
                // Each byte could bring as many as a message can carry.
                Ok(_) if self.files.len() > 1 => {
                    return Err(nonsense("more than one file descriptor"));
                }
                Ok(Piece { count, .. }) => done += count,
                Err(error) => self.overcome(request, error, PollFlags::POLLIN)?,
            }
        }
        Ok(())
    }

    /// Waits, if `error` only says that it is too early.
    fn overcome(
        &mut self,
        request: Request,
        error: io::Error,
        until: PollFlags,
    ) -> Result<(), BackendError> {
        match error {
            early if early.kind() == io::ErrorKind::WouldBlock => self.wait(request, until),
            early if early.kind() == io::ErrorKind::Interrupted => Ok(()),
            source => Err(BackendError::Io { request: request.1, source }),
        }
    }

    fn wait(&mut self, request: Request, flags: PollFlags) -> Result<(), BackendError> {
        let since = Instant::now();
        let left = self.patience.left(since);
        // The least that can be waited for.
        if left < Duration::from_millis(1) {
            return Err(BackendError::Silent { request: request.1, limit: PATIENCE });
        }
        let timeout = PollTimeout::try_from(left);
        let mut fds = [PollFd::new(self.stream.as_fd(), flags)];
        let polled = poll(&mut fds, timeout.unwrap_or(PollTimeout::ZERO));
        self.patience.spend(since, Instant::now());
        match polled {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(BackendError::Io { request: request.1, source: error.into() }),
        }
    }

    /// What a readable socket means on which nothing was asked.
    pub(crate) fn unasked(&mut self) -> Option<BackendError> {
        let closed = BackendError::Closed { request: None };
        let nonsense =
            |what: &str| Some(BackendError::Nonsense { request: "nothing", what: what.to_owned() });
        match receive(&self.stream, &mut [0], &mut self.files) {
            Ok(Piece { cut: true, .. }) => nonsense(CUT),
            Ok(Piece { count: 0, .. }) => Some(closed),
            Ok(_) => nonsense("a message that nobody asked for"),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => None,
                io::ErrorKind::ConnectionReset => Some(closed),
                _ => Some(BackendError::Io { request: "nothing", source: error }),
            },
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// What is wrong about a [`Piece`] that was cut.
pub(crate) const CUT: &str = "more file descriptors than can be taken";

/// What was there to be received.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) count: usize,
    /// More files came than this process has room for.
    pub(crate) cut: bool,
}

/// Receives what is there, and the files that are with it.
pub(crate) fn receive(
    stream: &UnixStream,
    bytes: &mut [u8],
    files: &mut Vec<OwnedFd>,
) -> io::Result<Piece> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = part {
            files.extend(more);
        }
    }
    Ok(Piece { count: message.bytes, cut: message.flags.contains(ReturnFlags::CTRUNC) })
}
