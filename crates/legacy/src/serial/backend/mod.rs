//! What can be at the other end of a serial line.

mod pty;
mod shared;
mod sink;
mod socket;
mod stdio;
mod stream;

use std::{
    any::Any,
    fmt,
    fs::OpenOptions,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use self::stream::Stream;
use self::{
    shared::Shared,
    sink::{Plain, Sink},
};
use super::input::{Descriptor, Source};

/// What happens to a file that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMode {
    /// It is kept and written at its end.
    Append,
    /// It is emptied.
    Truncate,
}

/// The other end of a serial line, or of a port of another console: a sink and, mostly, a source.
///
/// Standard output, files and other writers hold the guest back when they are slow. A pty or socket
/// discards what the guest says while nobody is connected; a client that stops reading costs the
/// guest one wait of 50 ms, after which bytes are lost until the client reads again.
///
/// Clones are the same end: a machine that is built anew when its guest reboots is attached to a
/// clone of what its predecessor had. Only one of them may be attached at a time.
#[derive(Clone)]
pub struct Backend {
    pub(super) sink: Shared<dyn Sink>,
    pub(super) source: Option<Shared<dyn Source>>,
    pub(super) path: Option<PathBuf>,
}

impl Backend {
    /// Writes to `out`, receives nothing.
    ///
    /// [`io::Stdout`] is replaced by its descriptor, without the buffer: the guest decides what is
    /// written when.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        let stdout = (&out as &dyn Any).is::<io::Stdout>().then(stdio::stdout);
        let sink: Box<dyn Sink> = match stdout {
            Some(Ok(stdout)) => Box::new(stdout),
            // Not standard output, or it is closed and will say so itself.
            _ => Box::new(Plain(out)),
        };
        Self { sink: Shared::new(sink), source: None, path: None }
    }

    /// The process's standard output and input. The terminal's mode is left as it is.
    ///
    /// # Errors
    /// The host gives no further descriptor.
    pub fn stdio() -> io::Result<Self> {
        Self::new(io::stdout()).input(io::stdin())
    }

    /// Writes to the file at `path`, which is created if there is none; receives nothing.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn file(path: impl AsRef<Path>, mode: FileMode) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true);
        let options = match mode {
            FileMode::Append => options.append(true),
            FileMode::Truncate => options.write(true).truncate(true),
        };
        let path = path.as_ref().to_owned();
        let sink = Shared::new(Box::new(Plain(options.open(&path)?)) as Box<dyn Sink>);
        Ok(Self { sink, source: None, path: Some(path) })
    }

    /// A new pseudo-terminal in raw mode; [`path`](Self::path) says where clients attach. A client
    /// may come and go.
    ///
    /// # Errors
    /// The host has no pseudo-terminal left.
    pub fn pty() -> io::Result<Self> {
        let (sink, source, path) = pty::open()?;
        Ok(Self::both(sink, source, path))
    }

    /// Listens on a Unix socket at `path`, for one client at a time; the next one is served when it
    /// has gone and the guest has read what it sent. The socket is removed when the last clone of this
    /// and the port are dropped.
    ///
    /// # Errors
    /// Something is at `path` already, unless it is a socket that nobody listens on any more; or
    /// the host refuses to bind there.
    pub fn unix_socket(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let (sink, source) = socket::listen(path)?;
        Ok(Self::both(sink, source, path.to_owned()))
    }

    /// Discards what is transmitted, receives nothing.
    pub fn null() -> Self {
        Self::new(io::sink())
    }

    /// Has the guest receive what `source` has to say, instead of what the backend has.
    ///
    /// The source is read when its descriptor is ready, so it must not read ahead into a buffer of
    /// its own; [`io::Stdin`], which does, is replaced by its descriptor. Regular files and
    /// descriptors that block are fine. A source that changes what it reads (an escape key) and has
    /// nothing left to say answers [`io::ErrorKind::WouldBlock`]; 0 bytes mean the end.
    ///
    /// # Errors
    /// The host gives no further descriptor.
    pub fn input(mut self, source: impl Read + AsRawFd + Send + 'static) -> io::Result<Self> {
        let source: Box<dyn Source> = if (&source as &dyn Any).is::<io::Stdin>() {
            Box::new(Descriptor(stdio::stdin()?))
        } else {
            Box::new(Descriptor(source))
        };
        self.source = Some(Shared::new(source));
        Ok(self)
    }

    /// What takes the guest's bytes, for a device that has only output.
    pub fn output(&self) -> impl Write + Send + 'static {
        self.sink.clone()
    }

    fn both(sink: impl Sink + 'static, source: impl Source + 'static, path: PathBuf) -> Self {
        let sink = Shared::new(Box::new(sink) as Box<dyn Sink>);
        let source = Shared::new(Box::new(source) as Box<dyn Source>);
        Self { sink, source: Some(source), path: Some(path) }
    }

    /// Where to connect: the pty's path, the socket's or the file's. `None` for other sinks.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.as_ref().map(|source| source.fd());
        f.debug_struct("Backend")
            .field("path", &self.path)
            .field("source", &source)
            .finish_non_exhaustive()
    }
}

/// How long a client that does not read may hold the guest back, once, milliseconds.
const PATIENCE: u16 = 50;

/// Writes to a descriptor that does not block. Waits for a slow reader once, then not again before
/// it has read something.
#[derive(Debug, Default)]
struct Patience {
    lost: bool,
}

impl Patience {
    fn write(&mut self, mut to: impl Write + AsFd, data: &[u8]) -> io::Result<usize> {
        let mut result = to.write(data);
        if would_block(&result) && !self.lost {
            wait_until_writable(to.as_fd(), PollTimeout::from(PATIENCE))?;
            result = to.write(data);
        }
        self.lost = would_block(&result);
        result
    }
}

fn would_block(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Returns when `fd` can be written, has failed, or the time is over.
fn wait_until_writable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut fds, timeout)?;
    let [fd] = fds;
    Ok(fd.revents().unwrap_or(PollFlags::empty()))
}
