//! Where the guest's serial output goes.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// More than the guest prints; a guest that goes wrong cannot fill the host's memory.
const LIMIT: usize = 16 << 10;

/// Keeps what the guest prints, and when it began to. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Console(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    first: Option<Instant>,
}

impl Console {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was printed so far, with line feeds only.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard().bytes).replace('\r', "")
    }

    /// When the first byte came.
    pub(super) fn first(&self) -> Option<Instant> {
        self.heard().first
    }
}

impl Write for Console {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut heard = self.heard();
        heard.first.get_or_insert_with(Instant::now);
        let room = LIMIT.saturating_sub(heard.bytes.len());
        heard.bytes.extend(data.iter().take(room));
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_clone_is_given_the_other_has() {
        let console = Console::default();
        assert_eq!(console.first(), None);
        console.clone().write_all(b"a\r\nb").unwrap();
        assert_eq!(console.text(), "a\nb");
        assert!(console.first().is_some());
    }

    #[test]
    fn a_guest_that_prints_without_end_fills_it_once() {
        let mut console = Console::default();
        for _ in 0..3 {
            console.write_all(&[b'x'; LIMIT]).unwrap();
        }
        assert_eq!(console.text().len(), LIMIT);
    }
}
