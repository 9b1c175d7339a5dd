//! Where bytes go: written at once, or with a wait.

use std::{
    io::{self, Write},
    os::fd::RawFd,
};

/// A writer that can also be asked not to wait. How long [`Write::write`] waits is its own affair.
pub(crate) trait Sink: Write + Send {
    /// A descriptor that is reported when the sink, having refused bytes, takes some again; if it is
    /// another than the source's.
    fn fd(&self) -> Option<RawFd>;

    /// Writes what can be written at once; `WouldBlock` if that is nothing.
    fn try_write(&mut self, data: &[u8]) -> io::Result<usize>;
}

/// A writer that never waits for long: a regular file, memory.
pub(super) struct Plain<W>(pub(super) W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> Sink for Plain<W> {
    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.0.write(data)?;
        self.0.flush()?;
        Ok(written)
    }
}
