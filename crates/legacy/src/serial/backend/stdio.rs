//! Standard input and output, without the standard library's buffers.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
};

use nix::{
    fcntl::OFlag,
    poll::{PollFlags, PollTimeout},
};

use super::{Sink, wait_until_writable, would_block};

/// Standard input: its own buffer would hide bytes from epoll.
pub(super) fn stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Standard output, one write per byte.
pub(super) fn stdout() -> io::Result<Blocking> {
    Ok(Blocking::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
}

/// A descriptor whose writes block even where another process has made it non-blocking (a terminal's
/// three descriptors are one). Returns when a signal comes, which the standard library's
/// [`io::Stdout`] does not.
#[derive(Debug)]
pub(super) struct Blocking {
    file: File,
    /// The same file in a mode of its own, if the host lets us have it.
    nonblocking: Option<File>,
}

/// What a descriptor that can be written takes without blocking, whatever it is.
const LITTLE: usize = 512;

impl Blocking {
    fn new(file: File) -> Self {
        let nonblocking = reopen(&file);
        Self { file, nonblocking }
    }
}

/// Opens what `file` is once more, non-blocking: on the descriptor at hand, which others share, the mode
/// would be changed for all of them. Regular files never block, and sockets cannot be opened.
fn reopen(file: &File) -> Option<File> {
    let kind = file.metadata().ok()?.file_type();
    if !kind.is_char_device() && !kind.is_fifo() {
        return None;
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(flags.bits()).open(path).ok()
}

impl Sink for Blocking {
    fn fd(&self) -> Option<RawFd> {
        Some(self.nonblocking.as_ref().unwrap_or(&self.file).as_raw_fd())
    }

    fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.nonblocking {
            return file.write(data);
        }
        if self.file.metadata()?.is_file() {
            return self.file.write(data);
        }
        let state = wait_until_writable(self.file.as_fd(), PollTimeout::ZERO)?;
        if !state.intersects(PollFlags::POLLOUT | PollFlags::POLLERR | PollFlags::POLLHUP) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.file.write(data.get(..LITTLE).unwrap_or(data))
    }
}

impl Write for Blocking {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        loop {
            let result = self.file.write(data);
            if !would_block(&result) {
                return result;
            }
            wait_until_writable(self.file.as_fd(), PollTimeout::NONE)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    /// Standard output, if it were `file`.
    pub(in crate::serial::backend) fn blocking(file: File) -> Blocking {
        Blocking::new(file)
    }

    #[test]
    fn a_sink_that_somebody_made_non_blocking_still_blocks() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut sink = Blocking::new(File::from(std::os::fd::OwnedFd::from(writer)));
        let thread = std::thread::spawn(move || sink.write_all(&[b'x'; 1 << 20]));
        let mut taken = Vec::new();
        reader.read_to_end(&mut taken).unwrap();
        thread.join().unwrap().unwrap();
        assert_eq!(taken.len(), 1 << 20);
    }
}
