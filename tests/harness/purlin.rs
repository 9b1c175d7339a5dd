//! A running `purlin`, spoken to as a user would.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::Pty;

/// A `purlin` process. Killed when dropped.
#[derive(Debug)]
pub struct Purlin {
    child: Child,
    output: Stream,
    errors: Stream,
}

/// How a `purlin` process ended, and what it said.
#[derive(Debug)]
pub struct Exit {
    /// The exit status; 128 and the signal's number if a signal ended it.
    pub status: i32,
    /// All of its standard output.
    pub output: String,
    /// All of its standard error.
    pub errors: String,
}

impl Purlin {
    /// Starts the binary under test with `args`.
    pub fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::spawn(Command::new(super::binary()).args(args))
    }

    /// Starts `command` with pipes for its standard streams.
    pub fn spawn(command: &mut Command) -> Self {
        Self::attach(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Starts `command` with its standard streams on `pty`.
    pub fn spawn_on(command: &mut Command, pty: &Pty) -> Self {
        command.stdin(pty.stdio()).stdout(pty.stdio()).stderr(pty.stdio());
        let mut purlin = Self::attach(command);
        // The command must not keep the other end open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        purlin.output = Stream::new(pty.screen());
        purlin
    }

    /// Starts `command` as it is, and reads those of its output streams that are pipes.
    pub fn attach(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let output = child.stdout.take().map_or_else(|| Stream::new(io::empty()), Stream::new);
        let errors = child.stderr.take().map_or_else(|| Stream::new(io::empty()), Stream::new);
        Self { child, output, errors }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard output holds `text`.
    ///
    /// # Panics
    /// It does not within `limit`, or the process ends without.
    pub fn expect(&mut self, text: &str, limit: Duration) {
        if !self.output.wait_until(|seen| seen.contains(text), limit) {
            self.errors.drain();
            let (output, errors) = (self.output.text(), self.errors.text());
            panic!("no {text:?} within {limit:?}\noutput: {output:.4000}\nerrors: {errors:.4000}");
        }
    }

    /// Waits until standard error holds `text`; all that it holds by then.
    ///
    /// # Panics
    /// It does not within `limit`, or the process ends without.
    pub fn expect_error(&mut self, text: &str, limit: Duration) -> String {
        if !self.errors.wait_until(|seen| seen.contains(text), limit) {
            panic!("no error {text:?} within {limit:?}: {}", self.errors.text());
        }
        self.errors.text()
    }

    /// Waits until standard output holds `text` somewhere after the first `before`.
    ///
    /// # Panics
    /// It does not within `limit`, or the process ends without.
    pub fn expect_after(&mut self, before: &str, text: &str, limit: Duration) {
        let found =
            |seen: &str| seen.split_once(before).is_some_and(|(_, rest)| rest.contains(text));
        if !self.output.wait_until(found, limit) {
            panic!("no {text:?} after {before:?} within {limit:?}: {}", self.output.text());
        }
    }

    /// Types `text` into standard input.
    pub fn type_in(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("purlin reads");
    }

    /// Closes standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// The process does not end within `limit`; it is killed then.
    pub fn wait(mut self, limit: Duration) -> Exit {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() > end {
                let (output, errors) = (self.output.text(), self.errors.text());
                panic!(
                    "still running after {limit:?}\noutput: {output:.4000}\nerrors: {errors:.4000}"
                );
            }
            thread::sleep(Duration::from_millis(5));
        };
        let status = status.code().or_else(|| Some(128 + status.signal()?)).expect("one of both");
        self.output.drain();
        self.errors.drain();
        Exit { status, output: self.output.text(), errors: self.errors.text() }
    }
}

/// Sends `signal` to the process `id`.
pub fn send(id: u32, signal: Signal) {
    let id = i32::try_from(id).expect("process ids fit");
    kill(Pid::from_raw(id), signal).expect("the process is there");
}

impl Drop for Purlin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process wrote so far, read by a thread of its own.
#[derive(Debug)]
struct Stream {
    chunks: mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Stream {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer.get(..count).unwrap_or_default().to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { chunks, seen: Vec::new() }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn wait_until(&mut self, found: impl Fn(&str) -> bool, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !found(&self.text()) {
            let left = end.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.seen.extend(chunk),
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads to the end. A child of the process that keeps the pipe open does not hold us up.
    fn drain(&mut self) {
        while let Ok(chunk) = self.chunks.recv_timeout(Duration::from_secs(2)) {
            self.seen.extend(chunk);
        }
    }
}
