//! Standard input and output, without the standard library's buffers.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

use nix::poll::PollTimeout;

use super::{wait_until_writable, would_block};

/// Standard input: its own buffer would hide bytes from epoll.
pub(super) fn stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Standard output, one write per byte.
pub(super) fn stdout() -> io::Result<Blocking> {
    Ok(Blocking(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
}

/// A descriptor whose writes block even where another process has made it non-blocking (a terminal's
/// three descriptors are one). Returns when a signal comes, which the standard library's
/// [`io::Stdout`] does not.
#[derive(Debug)]
pub(super) struct Blocking(File);

impl Write for Blocking {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        loop {
            let result = self.0.write(data);
            if !would_block(&result) {
                return result;
            }
            wait_until_writable(self.0.as_fd(), PollTimeout::NONE)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_sink_that_somebody_made_non_blocking_still_blocks() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut sink = Blocking(File::from(std::os::fd::OwnedFd::from(writer)));
        let thread = std::thread::spawn(move || sink.write_all(&[b'x'; 1 << 20]));
        let mut taken = Vec::new();
        reader.read_to_end(&mut taken).unwrap();
        thread.join().unwrap().unwrap();
        assert_eq!(taken.len(), 1 << 20);
    }
}
