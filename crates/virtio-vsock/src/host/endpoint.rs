//! Where host programs connect, and where the guest's connections go.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// The longest path that leaves room for `_` and a port: `sun_path` has 108 bytes, the last of them 0.
const LONGEST: usize = 107 - "_4294967295".len();

/// A Unix socket at a path, on which host programs connect to the guest. The guest's own connections
/// to port P of the host go to the socket at that path with `_P` after it, if somebody listens there.
///
/// The file is removed when this is dropped, or by [`close`](Self::close). It is made with the
/// permissions that the process's umask gives; whoever may write to it may talk to the guest.
#[derive(Debug)]
pub struct Endpoint {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file, so that no other file is ever removed.
    id: (u64, u64),
}

/// Why there is no socket at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process listens there.
    #[error("the socket {} is in use by another process; give another path", .0.display())]
    InUse(PathBuf),
    /// A process that is gone has left its socket.
    #[error(
        "the socket {} was left behind by a process that is gone; remove it (rm {}), \
         or give another path",
        .0.display(), .0.display()
    )]
    Stale(PathBuf),
    /// Something else has that name.
    #[error("{} exists and is not a socket; give a path that is free", .0.display())]
    Occupied(PathBuf),
    /// Sockets cannot have such a path.
    #[error(
        "the path of a socket has 1 to {LONGEST} bytes, so that ports can be added to it; \
         {} has {}",
        .0.display(), .0.as_os_str().len()
    )]
    Length(PathBuf),
    /// The host refuses.
    #[error("the socket {} cannot be made", path.display())]
    Host {
        /// The path.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

impl Endpoint {
    /// Makes the socket at `path`, where no file may be.
    ///
    /// # Errors
    /// The path is in use, too long, or cannot be written to. A file that is there is left alone, even
    /// a socket that nobody listens on any more.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let path = path.as_ref();
        if !(1..=LONGEST).contains(&path.as_os_str().len()) {
            return Err(BindError::Length(path.to_owned()));
        }
        let failed = |source| BindError::Host { path: path.to_owned(), source };
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(occupied(path)),
            bound => bound.map_err(failed)?,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let id = (metadata.dev(), metadata.ino());
        Ok(Self { listener, path: path.to_owned(), id })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, unless somebody has put another in its place. Connections that exist go on;
    /// there are no new ones from the host.
    pub fn close(&self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.id);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the socket {} stays behind: {error}", self.path.display());
        }
    }

    /// The next host program that wants to talk; never waits.
    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Connects to who listens on `port` of the host; never waits.
    pub(crate) fn connect(&self, port: u32) -> io::Result<UnixStream> {
        let mut path = OsString::from(&self.path);
        path.push(format!("_{port}"));
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(stream.as_raw_fd(), &UnixAddr::new(path.as_bytes())?)?;
        Ok(UnixStream::from(stream))
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.close();
    }
}

/// What is at `path`.
fn occupied(path: &Path) -> BindError {
    let path = path.to_owned();
    if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        return BindError::Occupied(path);
    }
    match UnixStream::connect(&path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => BindError::Stale(path),
        _ => BindError::InUse(path),
    }
}
