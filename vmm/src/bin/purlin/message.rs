//! Messages to the user, which must not hold anything up.

use std::{
    io::{Write, stderr},
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a message waits for a terminal or pipe that nobody reads, milliseconds.
const PATIENCE: u16 = 1000;
/// What a pipe that is ready takes without blocking.
const PIECE: usize = 4096;

/// The last message waited in vain: the next one does not wait.
static STUCK: AtomicBool = AtomicBool::new(false);

/// Writes `text` to standard error, as far as somebody reads it: a run must end, and signals must be
/// heard, also where the terminal has stopped taking output. A full disk is no reason to stop either,
/// and there is nobody else to tell.
pub(crate) fn tell(text: &str) {
    let mut stderr = stderr().lock();
    for piece in text.as_bytes().chunks(PIECE) {
        if !takes_output(&stderr) || stderr.write_all(piece).is_err() {
            return;
        }
    }
}

fn takes_output(stderr: impl AsFd) -> bool {
    let stuck = STUCK.load(Ordering::Relaxed);
    let patience = if stuck { PollTimeout::ZERO } else { PollTimeout::from(PATIENCE) };
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut fds, patience) != Ok(0);
    STUCK.store(!ready, Ordering::Relaxed);
    ready
}
