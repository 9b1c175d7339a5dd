//! One run of the outer guest: its streams, its signals and its end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::machine::Streams;
use super::process::Process;
use crate::error::{Context, Result};

/// The guest is given up if it has not come up by then; even a busy machine takes a tenth of it.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// Something that happened while the guest ran.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// The command has started.
    Ready,
    /// The command has ended, with this status.
    Exit(u8),
    /// The guest could not do its work.
    Fail(String),
    /// The guest is gone.
    Lost,
    /// This process was asked to end, or nobody reads its output any more.
    Signal(Signal),
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Exit(u8),
    Fail(String),
    /// The guest ended by itself, which only a crash or a kill makes it do.
    Lost,
    Signal(Signal),
    /// The time was over; `true` if the command had started.
    Timeout(bool),
}

/// Signals that would end this process, held back so that it can end the guest first.
#[derive(Debug)]
pub(super) struct Signals(SigSet);

impl Signals {
    /// Holds the signals back from now on. Call it before any thread is started.
    pub(super) fn hold() -> Result<Self> {
        let ending = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
        let ending: SigSet = ending.into_iter().collect();
        let mut held = ending;
        // Held back, it makes reading a terminal as a background job fail instead of stopping us.
        held.add(Signal::SIGTTIN);
        held.thread_block().context(|| "cannot hold back signals".to_owned())?;
        Ok(Self(ending))
    }
}

/// Carries the streams until the command has ended or `limit` is over; the guest is then killed.
///
/// Everything that the command wrote has been written when this returns.
pub(super) fn run(
    guest: Process,
    streams: Streams,
    signals: Signals,
    limit: Duration,
    mut started: impl FnMut(),
) -> Result<End> {
    let start = Instant::now();
    let (events, inbox) = channel();
    let Streams { control, stdin, stdout, stderr, terminal } = streams;
    listen(control, events.clone());
    let signal_events = events.clone();
    thread::spawn(move || {
        if let Ok(signal) = signals.0.wait() {
            let _ = signal_events.send(Event::Signal(signal));
        }
    });
    let mut outputs = vec![
        pump(stdout, own(io::stdout())?, events.clone()),
        pump(stderr, own(io::stderr())?, events.clone()),
    ];
    let mut input = stdin;
    if let Some(terminal) = terminal {
        input = terminal.try_clone().context(|| "cannot use the terminal".to_owned())?;
        outputs.push(pump(terminal, own(io::stdout())?, events));
    }
    feed(own(io::stdin())?, input);
    let end = wait(&inbox, start, limit, &mut started);
    drop(guest);
    // The guest's ends are closed: the pumps write what was on its way, and end.
    if !matches!(end, End::Signal(_)) {
        outputs.into_iter().for_each(|output| drop(output.join()));
    }
    Ok(end)
}

fn wait(
    inbox: &Receiver<Event>,
    start: Instant,
    limit: Duration,
    started: &mut impl FnMut(),
) -> End {
    let mut ready = false;
    loop {
        let limit = if ready { limit } else { limit.min(BOOT_LIMIT) };
        match inbox.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(Event::Ready) => {
                ready = true;
                started();
            }
            Ok(Event::Exit(status)) => return End::Exit(status),
            Ok(Event::Fail(text)) => return End::Fail(text),
            Ok(Event::Signal(signal)) => return End::Signal(signal),
            Ok(Event::Lost) | Err(RecvTimeoutError::Disconnected) => return End::Lost,
            Err(RecvTimeoutError::Timeout) => return End::Timeout(ready),
        }
    }
}

/// Reads what the guest's agent reports.
fn listen(control: UnixStream, events: Sender<Event>) {
    thread::spawn(move || {
        for line in BufReader::new(control).lines().map_while(|line| line.ok()) {
            if let Some(event) = parse(&line) {
                let _ = events.send(event);
            }
        }
        let _ = events.send(Event::Lost);
    });
}

fn parse(line: &str) -> Option<Event> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "ready" => Some(Event::Ready),
        "exit" => rest.parse().ok().map(Event::Exit),
        "fail" => Some(Event::Fail(rest.to_owned())),
        _ => None,
    }
}

/// Copies to the end of `from`, each piece as soon as it comes.
fn pump(mut from: UnixStream, mut to: File, events: Sender<Event>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(buffer.get(..count).unwrap_or_default()).is_err() {
                // As the command itself would be told.
                let _ = events.send(Event::Signal(Signal::SIGPIPE));
                return;
            }
        }
    })
}

/// Copies this process's input to the guest, and its end.
fn feed(mut from: File, mut to: UnixStream) {
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(buffer.get(..count).unwrap_or_default()).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        // Closing the socket would make QEMU drop what the guest has not read yet.
        let _ = io::copy(&mut to, &mut io::sink());
    });
}

/// A stream of this process without the buffer that the standard library puts before it.
fn own(stream: impl AsFd) -> Result<File> {
    let fd = stream.as_fd().try_clone_to_owned();
    fd.map(File::from).context(|| "cannot use this process's own streams".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_the_agent_are_understood() {
        assert_eq!(parse("ready"), Some(Event::Ready));
        assert_eq!(parse("exit 143"), Some(Event::Exit(143)));
        assert_eq!(parse("fail no disk today"), Some(Event::Fail("no disk today".into())));
        assert_eq!(parse("exit many"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_session_without_time_left_is_over() {
        let (_events, inbox) = channel();

        let end = wait(&inbox, Instant::now(), Duration::ZERO, &mut || ());

        assert_eq!(end, End::Timeout(false));
    }

    #[test]
    fn the_command_ends_the_session_with_its_status() {
        let (events, inbox) = channel();
        events.send(Event::Ready).unwrap();
        events.send(Event::Exit(7)).unwrap();
        let mut started = false;

        let end = wait(&inbox, Instant::now(), Duration::from_secs(60), &mut || started = true);

        assert_eq!((end, started), (End::Exit(7), true));
    }
}
