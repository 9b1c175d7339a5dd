//! A back end for tests: a disk in memory behind a real socket, with a thread of its own. It does what
//! it is told to, also what no back end should.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    unreachable_pub,
    reason = "test code, of which no test uses all"
)]

mod disk;
mod serve;

use std::{
    os::{fd::AsRawFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use device::EventFd;
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::EFD_NONBLOCK,
    tempdir::TempDir,
};

pub use self::serve::*;

/// Sectors of the disk; each is full of its number.
pub const SECTORS: u64 = 64;

/// How a back end is.
#[derive(Clone, Debug)]
pub struct Options {
    pub features: u64,
    pub protocol: u64,
    pub queues: u64,
    pub capacity: u64,
    /// Becomes twice as large at the next request, and says so.
    pub grows: Arc<AtomicBool>,
    /// Takes requests and does not end them.
    pub holds: Arc<AtomicBool>,
    /// Ends every second request only, the others when there is no more room.
    pub skips: Arc<AtomicBool>,
    /// Does not say that it has ended requests.
    pub mute: Arc<AtomicBool>,
    /// How often it has made memory for notes.
    pub regions: Arc<AtomicUsize>,
    /// A request number and what is sent instead of its answer.
    pub lie: Option<(u32, Lie)>,
    /// Requests taken, in all.
    pub taken: Arc<AtomicUsize>,
    /// Requests ended, in all.
    pub ended: Arc<AtomicUsize>,
    /// Takes its time for every message, milliseconds.
    pub slow: Arc<AtomicU64>,
    /// Messages of the rings answered: those that the I/O thread waits for.
    pub answered: Arc<AtomicUsize>,
    /// Connections taken, in all.
    pub connections: Arc<AtomicUsize>,
    /// Says that its configuration has changed whenever it is asked for it.
    pub flickers: Arc<AtomicBool>,
    /// Makes the events of calls block, and fills them.
    pub blocks: Arc<AtomicBool>,
    /// How often it was asked for its configuration.
    pub asked: Arc<AtomicUsize>,
}

/// What a back end may do in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing, for ever.
    Silence,
    /// The connection is closed.
    Close,
    /// Half of the header, and the connection is closed.
    HalfHeader,
    /// A body that is shorter than the header says, and the connection is closed.
    HalfBody,
    /// A length that is less than it should be.
    Short,
    /// A length that is more than it should be.
    Long,
    /// A length of 4 GiB.
    Giant,
    /// Another request.
    WrongCode,
    /// Not marked as an answer.
    NoAnswer,
    /// Another version.
    WrongVersion,
    /// With a file descriptor that does not belong there.
    File,
    /// With two of them.
    Files,
    /// With as many as a message can carry.
    AllFiles,
    /// With a file descriptor whose closing takes half a minute.
    Lingering,
    /// An answer, but no file descriptor with it.
    NoFile,
    /// Full of ones.
    Ones,
    /// Twice.
    Twice,
    /// A number that is too large by a hundred.
    Beyond,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            features: VERSION_1 | EVENT_IDX | INDIRECT | PROTOCOL | 1 << 6 | 1 << 9 | 1 << 11,
            protocol: MQ | REPLY_ACK | CONFIG | INFLIGHT | RESET,
            queues: 4,
            capacity: SECTORS,
            grows: Arc::default(),
            holds: Arc::default(),
            skips: Arc::default(),
            mute: Arc::default(),
            regions: Arc::default(),
            lie: None,
            taken: Arc::default(),
            ended: Arc::default(),
            slow: Arc::default(),
            answered: Arc::default(),
            connections: Arc::default(),
            flickers: Arc::default(),
            blocks: Arc::default(),
            asked: Arc::default(),
        }
    }
}

/// A back end that runs until it is dropped, which is as sudden as SIGKILL.
pub struct Backend {
    thread: Option<JoinHandle<()>>,
    end: EventFd,
}

impl Backend {
    pub fn new(socket: &Path, options: Options) -> Self {
        drop(std::fs::remove_file(socket));
        let listener = UnixListener::bind(socket).unwrap();
        let end = EventFd::new(EFD_NONBLOCK).unwrap();
        let ended = end.try_clone().unwrap();
        let thread = thread::spawn(move || accept(&listener, &options, &ended));
        Self { thread: Some(thread), end }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.end.write(1).unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the back end has panicked");
    }
}

/// Serves one connection after the other.
fn accept(listener: &UnixListener, options: &Options, end: &EventFd) {
    let epoll = Epoll::new().unwrap();
    let watch = |fd, what| {
        epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, what)).unwrap();
    };
    watch(listener.as_raw_fd(), 0);
    watch(end.as_raw_fd(), 1);
    loop {
        let mut events = [EpollEvent::default(); 2];
        let count = epoll.wait(-1, &mut events).unwrap();
        if events[..count].iter().any(|event| event.data() == 1) {
            return;
        }
        let (stream, _) = listener.accept().unwrap();
        options.connections.fetch_add(1, SeqCst);
        serve::Connection::new(stream, options.clone()).run(end);
    }
}

/// A place for sockets.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.0.as_path().join(name)
    }
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The same, of a counter.
pub fn count(counter: &AtomicUsize) -> usize {
    counter.load(SeqCst)
}
