//! A pseudo-terminal, which clients open by its path.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, RawFd},
    path::PathBuf,
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    poll::{PollFlags, PollTimeout},
    pty::openpty,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    unistd::ttyname,
};

use super::{Patience, wait_until_writable};
use crate::serial::input::Source;

/// A new pair: our sink and source, and the path for clients.
pub(super) fn open() -> io::Result<(Sink, Master, PathBuf)> {
    let pair = openpty(None, None)?;
    // The line discipline must not echo the guest's output back to it, nor edit lines.
    let mut termios = tcgetattr(&pair.slave)?;
    cfmakeraw(&mut termios);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &termios)?;
    let path = ttyname(&pair.slave)?;
    fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
    fcntl(&pair.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // Our end of the slave closes here: from now on a hang-up says that no client is there.
    drop(pair.slave);
    let master = Arc::new(File::from(pair.master));
    let sink = Sink { master: Arc::clone(&master), patience: Patience::default() };
    Ok((sink, Master(master), path))
}

pub(super) struct Sink {
    master: Arc<File>,
    patience: Patience,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.nobody()? {
            return Ok(data.len());
        }
        self.patience.write(self.master.as_ref(), data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn nobody(&self) -> io::Result<bool> {
        let state = wait_until_writable(self.master.as_fd(), PollTimeout::ZERO)?;
        Ok(state.contains(PollFlags::POLLHUP))
    }
}

impl super::Sink for Sink {
    fn fd(&self) -> Option<RawFd> {
        Some(self.master.as_raw_fd())
    }

    fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.nobody()? { Ok(data.len()) } else { self.master.as_ref().write(data) }
    }
}

pub(super) struct Master(Arc<File>);

impl Source for Master {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn edge(&self) -> bool {
        true
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.as_ref().read(buffer) {
            // The client has closed it; the next one's first byte is an edge.
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result,
        }
    }
}
