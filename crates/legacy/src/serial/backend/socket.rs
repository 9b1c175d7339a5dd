//! A listening Unix socket that serves one client at a time.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::Patience;
use crate::{lock, serial::input::Source};

/// Binds and listens at `path`.
pub(super) fn listen(path: &Path) -> io::Result<(Sink, Listener)> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    let metadata = fs::symlink_metadata(path)?;
    let bound = Bound { path: path.to_owned(), id: (metadata.dev(), metadata.ino()) };
    let client = Client::default();
    let sink = Sink { client: Arc::clone(&client), patience: Patience::default() };
    Ok((sink, Listener { listener, serving: None, accepted: None, client, _bound: bound }))
}

/// Removes a socket that a dead process left behind, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let taken = |what: &str| {
        let path = path.display();
        let why = format!("`{path}` {what}; a serial socket needs a path that is free");
        Err(io::Error::new(io::ErrorKind::AddrInUse, why))
    };
    if !metadata.file_type().is_socket() {
        return taken("exists and is not a socket");
    }
    match UnixStream::connect(path) {
        Ok(_) => taken("is a socket that another process listens on"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The client at present, as sink and source share it.
type Client = Arc<Mutex<Option<Arc<UnixStream>>>>;

pub(super) struct Sink {
    client: Client,
    patience: Patience,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let client = lock(&self.client).clone();
        let Some(client) = client else { return Ok(data.len()) };
        or_gone(self.patience.write(client.as_ref(), data), data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl super::Sink for Sink {
    fn fd(&self) -> Option<RawFd> {
        None // the source's, which changes with it
    }

    fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        let client = lock(&self.client).clone();
        let Some(client) = client else { return Ok(data.len()) };
        or_gone(client.as_ref().write(data), data)
    }
}

/// A client that has gone reads as much as nobody.
fn or_gone(result: io::Result<usize>, data: &[u8]) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(data.len()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(data.len()),
        result => result,
    }
}

/// The source: the listener while nobody is connected, else the client.
pub(super) struct Listener {
    listener: UnixListener,
    serving: Option<Arc<UnixStream>>,
    accepted: Option<Arc<UnixStream>>,
    client: Client,
    _bound: Bound,
}

impl Source for Listener {
    fn fd(&self) -> RawFd {
        self.serving.as_ref().map_or(self.listener.as_raw_fd(), |client| client.as_raw_fd())
    }

    fn edge(&self) -> bool {
        // Were it a level, a connection that the host cannot accept (no descriptor is left) would
        // keep the I/O thread spinning.
        self.serving.is_none()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(client) = &self.serving {
            return client.as_ref().read(buffer);
        }
        match self.listener.accept() {
            Ok((client, _)) => {
                client.set_nonblocking(true)?;
                self.accepted = Some(Arc::new(client));
                Ok(0) // done with the listener for now
            }
            // A client that was gone before it was accepted is no reason to stop listening.
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn next(&mut self) -> bool {
        self.serving = self.accepted.take();
        lock(&self.client).clone_from(&self.serving);
        true
    }

    fn connected(&mut self) -> bool {
        if self.serving.is_none() && self.read(&mut []).is_ok() {
            self.next();
        }
        self.serving.is_some()
    }
}

/// The name in the file system, removed when dropped unless somebody has put another file there.
struct Bound {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.id);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the socket `{}` stays behind: {error}", self.path.display());
        }
    }
}
