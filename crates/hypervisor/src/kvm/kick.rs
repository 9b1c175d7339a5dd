//! Interrupting `KVM_RUN` from another thread, without a signal handler.
//!
//! The vCPU's thread blocks one real-time signal, and `KVM_SET_SIGNAL_MASK` unblocks it inside
//! `KVM_RUN` only. Sent at any time, it therefore stays pending until `KVM_RUN`, which returns
//! `EINTR` instead of entering the guest; it is then taken from the queue by `sigtimedwait`. No
//! handler, no thread-local state, nothing process-wide, and no moment in which a kick is lost.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
};

use vmm_sys_util::signal::{self, SIGRTMIN};

use super::sys;
use crate::Kicker;

/// The signal, counted from `SIGRTMIN`: taken on vCPU threads, and nowhere else.
const OFFSET: i32 = 7;

/// What a vCPU and its kickers share.
#[derive(Debug, Default)]
struct Shared {
    /// A kick that no run has answered yet.
    pending: AtomicBool,
    /// The kernel's id of the thread to signal. Locked while signalling, so that a vCPU that has
    /// gone cannot have its thread's id mistaken for a new thread's.
    thread: Mutex<Option<i32>>,
}

/// The vCPU's end.
#[derive(Debug, Default)]
pub(super) struct Kick {
    shared: Arc<Shared>,
    bound: Option<ThreadId>,
}

impl Kick {
    pub(super) fn kicker(&self) -> Kicker {
        let shared = Arc::clone(&self.shared);
        Kicker::from_fn(move || shared.kick())
    }

    /// Whether the calling thread may run the vCPU; binds the first that asks.
    pub(super) fn bind(&mut self, vcpu: &impl AsRawFd) -> io::Result<bool> {
        let caller = thread::current().id();
        if let Some(bound) = self.bound {
            return Ok(bound == caller);
        }
        let number = SIGRTMIN() + OFFSET;
        match signal::block_signal(number) {
            Ok(()) | Err(signal::Error::SignalAlreadyBlocked(_)) => {}
            Err(error) => return Err(failed(error)),
        }
        sys::set_signal_mask(vcpu, blocked()? & !bit(number))?;
        self.bound = Some(caller);
        *self.shared.thread() = Some(sys::thread_id());
        Ok(true)
    }

    /// Whether there was a kick since the last call. Costs a load while there was none.
    pub(super) fn take(&self) -> bool {
        self.shared.pending.load(Ordering::SeqCst)
            && self.shared.pending.swap(false, Ordering::SeqCst)
    }

    /// Takes the signal from the queue, after `EINTR`. Before [`take`](Self::take): a kick that
    /// comes in between is then seen by `take`, and at worst interrupts one more run for nothing.
    pub(super) fn drain(&self) -> io::Result<()> {
        signal::clear_signal(SIGRTMIN() + OFFSET).map_err(failed)
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        *self.shared.thread() = None;
    }
}

impl Shared {
    fn kick(&self) {
        if self.pending.swap(true, Ordering::SeqCst) {
            return; // another kick is on its way
        }
        // A thread that binds after this look sees `pending` before it enters the guest.
        while !self.signalled() {
            thread::yield_now();
        }
    }

    /// False if the user's queue of real-time signals is full: others must drain theirs.
    fn signalled(&self) -> bool {
        let thread = self.thread();
        let Some(id) = *thread else { return true };
        let sent = sys::signal_thread(id, SIGRTMIN() + OFFSET);
        !sent.is_err_and(|error| error.raw_os_error() == Some(libc::EAGAIN))
    }

    fn thread(&self) -> std::sync::MutexGuard<'_, Option<i32>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error has no source of its own to keep.
fn failed(error: signal::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// The calling thread's blocked signals, as the kernel's set.
fn blocked() -> io::Result<u64> {
    let numbers = signal::get_blocked_signals().map_err(failed)?;
    Ok(numbers.into_iter().map(bit).fold(0, |set, bit| set | bit))
}

fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_count_from_one_in_the_kernel_s_set() {
        assert_eq!([1, 2, 64].map(bit), [1, 2, 1 << 63]);
    }

    #[test]
    fn what_is_no_signal_is_not_in_the_set() {
        assert_eq!([0, -1, 65].map(bit), [0, 0, 0]);
    }

    #[test]
    fn a_kick_without_a_thread_waits_for_one_and_counts_once() {
        let kick = Kick::default();
        let kicker = kick.kicker();
        kicker.kick();
        kicker.kick();
        assert!(kick.take());
        assert!(!kick.take());
    }
}
