//! Event loops that the host fails.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    env,
    num::NonZeroUsize,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use arch::Layout;
use device::{
    Attach, AttachError, EventFd, EventOps, EventSet, Events, MutEventSubscriber, Wiring,
};
use hypervisor::mock;
use memory::{Backing, Ram};
use purlin_board::{Board, BoardBuilder, ServeError};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

const LOOPS: usize = 3;
/// How long the loops may take to end.
const LIMIT: Duration = Duration::from_secs(20);

/// What waits for events, by any of its names.
const WAIT: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
];
const NEW_THREAD: &[i64] = &[libc::SYS_clone, libc::SYS_clone3];

/// From now on, `calls` fail with `errno` in this thread, and in those that it starts.
fn refuse(calls: &[i64], errno: i32) {
    let action = SeccompAction::Errno(errno.unsigned_abs());
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// Once its event is signalled, the loop that serves it can wait for nothing any more.
#[derive(Debug)]
struct Fatal(EventFd);

impl Fatal {
    fn new() -> Self {
        Self(event())
    }
}

impl Attach for Fatal {
    type Handle = EventFd;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<EventFd, AttachError> {
        let event = self.0.try_clone()?;
        wiring.poll(Arc::new(Mutex::new(self)));
        Ok(event)
    }
}

impl MutEventSubscriber for Fatal {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        ops.add(Events::new(&self.0, EventSet::IN)).unwrap();
    }

    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        self.0.read().unwrap();
        refuse(WAIT, libc::EIO);
    }
}

fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap()
}

/// A board with several loops, and what makes each of them fail.
fn board() -> (Board, Vec<EventFd>) {
    let layout = Layout::for_ram(1 << 20).unwrap();
    let ram = Ram::new(&layout.ram, Backing::Anonymous).unwrap();
    let machine = mock::Host::new([]).machine();
    let mut builder = BoardBuilder::new(machine, ram.memory(), &layout).unwrap();
    builder.io_threads(NonZeroUsize::new(LOOPS).unwrap()).unwrap();
    let attach = |number: usize| builder.attach(&number.to_string(), Fatal::new()).unwrap();
    let events = (0..LOOPS).map(attach).collect();
    (builder.freeze().unwrap(), events)
}

/// Why `board` is no longer served by a thread of its own, which does `first` before; then `until` is
/// signalled.
fn failure(mut board: Board, first: fn()) -> ServeError {
    let until = event();
    let own = until.try_clone().unwrap();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        first();
        ended.send(board.serve(&own)).unwrap();
    });
    let served = end.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("some loop goes on"));
    assert!(until.read().is_ok(), "nobody else hears of it");
    served.unwrap_err()
}

#[test]
fn a_loop_that_fails_ends_the_others_and_its_error_comes_out() {
    for number in 0..LOOPS {
        let (board, events) = board();
        events.get(number).unwrap().write(1).unwrap();
        let error = failure(board, || ());
        let ServeError::Loop(event_manager::Error::Epoll(errno)) = error else {
            panic!("loop {number} failed with {error:?}")
        };
        assert_eq!(errno.errno(), libc::EIO, "loop {number}");
    }
}

#[test]
fn a_host_that_gives_no_thread_ends_the_loop_that_runs() {
    let (board, _events) = board();
    let error = failure(board, || refuse(NEW_THREAD, libc::EAGAIN));
    let ServeError::Thread(error) = error else { panic!("failed with {error:?}") };
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
}
