//! Where a device's bytes go.

use std::{
    fmt,
    io::{self, Write},
};

use crate::tally::Tally;

/// What is kept while signals interrupt a sink that blocks.
const BACKLOG: usize = 4096;

/// A sink that a guest cannot harm: a byte is written and flushed at once, or counted as lost.
pub(crate) struct Output {
    name: &'static str,
    sink: Box<dyn Write + Send>,
    backlog: Vec<u8>,
    lost: Tally,
}

impl Output {
    pub(crate) fn new(name: &'static str, sink: Box<dyn Write + Send>) -> Self {
        Self { name, sink, backlog: Vec::new(), lost: Tally::default() }
    }

    /// Counts the bytes lost.
    pub(crate) fn lost(&self) -> Tally {
        self.lost.clone()
    }

    /// Writes one byte.
    pub(crate) fn put(&mut self, byte: u8) {
        if self.backlog.len() >= BACKLOG {
            self.lose(1, &io::Error::from(io::ErrorKind::WouldBlock));
            return;
        }
        self.backlog.push(byte);
        self.flush();
    }

    /// Writes what a signal kept from being written.
    ///
    /// Where a hypervisor interrupts vCPU threads by signals that are delivered, the thread must return
    /// from a blocked sink; the byte stays for the next call.
    pub(crate) fn flush(&mut self) {
        while !self.backlog.is_empty() {
            match self.sink.write(&self.backlog) {
                Ok(0) => return self.give_up(&io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.backlog.drain(..written.min(self.backlog.len()))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
                Err(error) => return self.give_up(&error),
            }
            match self.sink.flush() {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => self.lose(0, &error),
                _ => {}
            }
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        let lost = self.backlog.len();
        self.backlog.clear();
        self.lose(lost, error);
    }

    fn lose(&self, bytes: usize, error: &io::Error) {
        if let Some(count) = self.lost.add(bytes) {
            log::warn!("{}: output is lost ({count} bytes so far): {error}", self.name);
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("name", &self.name)
            .field("lost", &self.lost.count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Answers writes from a list, then takes everything.
    #[derive(Clone, Default)]
    struct Moody {
        errors: Arc<Mutex<Vec<io::ErrorKind>>>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Moody {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            match self.errors.lock().unwrap().pop() {
                Some(kind) => Err(kind.into()),
                None => self.taken.lock().unwrap().write(data),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_signal_loses_nothing_and_returns() {
        let sink = Moody::default();
        sink.errors.lock().unwrap().push(io::ErrorKind::Interrupted);
        let mut out = Output::new("test", Box::new(sink.clone()));
        out.put(b'a');
        assert!(sink.taken.lock().unwrap().is_empty());
        out.put(b'b');
        assert_eq!(*sink.taken.lock().unwrap(), b"ab");
        assert_eq!(out.lost().count(), 0);
    }

    #[test]
    fn a_sink_that_fails_loses_the_byte_and_works_again_afterwards() {
        let sink = Moody::default();
        sink.errors.lock().unwrap().push(io::ErrorKind::StorageFull);
        let mut out = Output::new("test", Box::new(sink.clone()));
        out.put(b'a');
        out.put(b'b');
        assert_eq!(*sink.taken.lock().unwrap(), b"b");
        assert_eq!(out.lost().count(), 1);
    }

    #[test]
    fn endless_signals_do_not_grow_the_backlog() {
        let sink = Moody::default();
        let endless = vec![io::ErrorKind::Interrupted; 2 * BACKLOG];
        *sink.errors.lock().unwrap() = endless;
        let mut out = Output::new("test", Box::new(sink));
        (0..2 * BACKLOG).for_each(|_| out.put(0));
        assert_eq!(out.backlog.len(), BACKLOG);
        assert_eq!(out.lost().count(), u64::try_from(BACKLOG).unwrap());
    }
}
