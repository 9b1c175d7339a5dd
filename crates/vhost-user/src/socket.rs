//! The connection to a back end: messages with file descriptors, and never a wait without an end.

use std::{
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect,
        recvmsg, socket,
    },
};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::{
    BackendError,
    message::{self, HEADER, Request},
};

/// How long a conversation may take: what a caller does at once, requests and answers together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// As many file descriptors as can come with a message: what does not fit could not be closed.
const MOST_FILES: usize = 253;

/// A file that came with a message.
#[derive(Debug)]
pub(crate) struct Received(RawFd);

impl AsRawFd for Received {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // There is nothing to be done about an error.
        let _ = nix::unistd::close(self.0);
    }
}

/// A connection. It blocks no longer than until the end of the conversation.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: UnixStream,
    until: Instant,
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
        Self { stream, until: Instant::now() }
    }

    /// Begins a conversation.
    pub(crate) fn begin(&mut self) {
        self.until = Instant::now() + PATIENCE;
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

    /// The answer to `request`, which has `len` bytes after its header, and the file that came with
    /// it.
    pub(crate) fn answer(
        &mut self,
        request: Request,
        len: usize,
    ) -> Result<(Vec<u8>, Option<Received>), BackendError> {
        let nonsense = |what| BackendError::Nonsense { request: request.1, what };
        let mut header = [0; HEADER];
        let file = self.fill(request, &mut header)?;
        let found = message::answer(request, &header).map_err(nonsense)?;
        if found == 0 && len > 0 {
            return Err(BackendError::Refused { request: request.1 });
        }
        if usize::try_from(found) != Ok(len) {
            return Err(nonsense(format!("{found} bytes; it should be {len}")));
        }
        let mut body = vec![0; len];
        match self.fill(request, &mut body)? {
            Some(_) => Err(nonsense("a file descriptor in the middle of a message".into())),
            None => Ok((body, file)),
        }
    }

    /// Receives until `bytes` is full.
    fn fill(
        &mut self,
        request: Request,
        bytes: &mut [u8],
    ) -> Result<Option<Received>, BackendError> {
        let (mut done, mut file) = (0, None);
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match receive(&self.stream, rest) {
                Ok((0, _)) => return Err(BackendError::Closed { request: Some(request.1) }),
                Ok((count, files)) => {
                    done += count;
                    for more in files {
                        if file.replace(more).is_some() {
                            let what = "more than one file descriptor".into();
                            return Err(BackendError::Nonsense { request: request.1, what });
                        }
                    }
                }
                Err(error) => self.overcome(request, error.into(), PollFlags::POLLIN)?,
            }
        }
        Ok(file)
    }

    /// Waits, if `error` only says that it is too early.
    fn overcome(
        &self,
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

    fn wait(&self, request: Request, flags: PollFlags) -> Result<(), BackendError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(BackendError::Silent { request: request.1, limit: PATIENCE });
        }
        // Rounded up: a wait of 0 ms is none.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut fds = [PollFd::new(self.stream.as_fd(), flags)];
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(BackendError::Io { request: request.1, source: error.into() }),
        }
    }

    /// What a readable socket means on which nothing was asked.
    pub(crate) fn unasked(&self) -> Option<BackendError> {
        match receive(&self.stream, &mut [0]) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => Some(BackendError::Closed { request: None }),
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Ok(_) | Err(_) => {
                let what = "a message that nobody asked for".into();
                Some(BackendError::Nonsense { request: "nothing", what })
            }
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Receives what is there: how many bytes, and the files that came with them.
pub(crate) fn receive(
    stream: &UnixStream,
    bytes: &mut [u8],
) -> Result<(usize, Vec<Received>), Errno> {
    let mut space = cmsg_space!([RawFd; MOST_FILES]);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let files = message.cmsgs()?.filter_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((message.bytes, files.flatten().map(Received).collect()))
}
