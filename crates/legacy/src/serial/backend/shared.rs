//! One sink or source in several hands.

use std::{
    fmt,
    io::{self, Write},
    os::fd::RawFd,
    sync::{Arc, Mutex},
};

use super::sink::Sink;
use crate::{lock, serial::input::Source};

/// A sink or source that outlives the port it is attached to, and is attached to the next one.
pub(crate) struct Shared<T: ?Sized>(Arc<Mutex<Box<T>>>);

impl<T: ?Sized> Shared<T> {
    pub(super) fn new(inside: Box<T>) -> Self {
        Self(Arc::new(Mutex::new(inside)))
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Write for Shared<dyn Sink> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        lock(&self.0).flush()
    }
}

impl Sink for Shared<dyn Sink> {
    fn fd(&self) -> Option<RawFd> {
        lock(&self.0).fd()
    }

    fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        lock(&self.0).try_write(data)
    }
}

impl Source for Shared<dyn Source> {
    fn fd(&self) -> RawFd {
        lock(&self.0).fd()
    }

    fn edge(&self) -> bool {
        lock(&self.0).edge()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).read(buffer)
    }

    fn next(&mut self) -> bool {
        lock(&self.0).next()
    }

    fn connected(&mut self) -> bool {
        lock(&self.0).connected()
    }
}
