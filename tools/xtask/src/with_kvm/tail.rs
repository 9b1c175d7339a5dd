//! The last part of what a program said, for when it fails.
#![expect(clippy::print_stderr, reason = "--verbose shows what the programs say")]

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bytes kept.
const LIMIT: usize = 32 * 1024;

/// A bounded record of several programs' output, shared by the threads that read it.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    echo: bool,
}

impl Tail {
    /// An empty record; with `echo` everything is also printed at once.
    pub(super) fn new(echo: bool) -> Self {
        Self { bytes: Arc::default(), echo }
    }

    /// Records `source` in a thread, until its end.
    pub(super) fn follow(&self, mut source: impl Read + Send + 'static) {
        let tail = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                tail.push(buffer.get(..count).unwrap_or_default());
            }
        });
    }

    fn push(&self, new: &[u8]) {
        if self.echo {
            eprint!("{}", String::from_utf8_lossy(new));
        }
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend(new);
        let surplus = bytes.len().saturating_sub(LIMIT);
        bytes.drain(..surplus);
    }

    /// The last `count` lines.
    pub(super) fn lines(&self, count: usize) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != b'\r').collect();
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<&str> = text.lines().rev().take(count).collect();
        lines.reverse();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let tail = Tail::new(false);

        for number in 0..20_000 {
            tail.push(format!("line {number}\r\n").as_bytes());
        }

        assert_eq!(tail.lines(2), "line 19998\nline 19999");
        assert!(tail.bytes.lock().unwrap().len() <= LIMIT);
    }
}
