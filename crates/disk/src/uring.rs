//! Requests to a file that are under way at the same time, by io_uring.
//!
//! Unsafe: the kernel is handed pointers into guest RAM that it uses after the call that handed them
//! over. They lie in a slot of [`Uring`], which is left alone until the kernel has answered; and a ring
//! that goes away waits for all answers first.
#![expect(
    unsafe_code,
    reason = "the kernel keeps pointers; the slots that they point to outlive it"
)]

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use io_uring::{
    IoUring, opcode, squeue,
    types::{Fd, FsyncFlags},
};
use memory::{GuestMemory, Scatter};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// How often an answer that is none (`EAGAIN`) is asked for again, for each request.
const TRIES: u8 = 100;

/// What a request does. Offsets are bytes from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fills its places in RAM with what is in the file from here on.
    Read(u64),
    /// Writes its places to the file from here on.
    Write(u64),
    /// The same, and waits until it would survive a power cut.
    WriteThrough(u64),
    /// Waits until everything that was written before would survive a power cut. What is under way
    /// meanwhile may or may not be part of it.
    Flush,
}

/// Requests to one file, up to a fixed number at a time. They are done in any order.
pub struct Uring {
    ring: IoUring,
    event: EventFd,
    /// Not registered with the ring, which the kernel takes apart some time after a process has ended:
    /// a lock on the file would be there as long.
    file: OwnedFd,
    /// What is under way, by the number that the kernel has for it. They are made when they are first
    /// needed, and kept.
    slots: Box<[Option<Box<Slot>>]>,
    free: Vec<u16>,
    /// How many entries the kernel has not been told of.
    queued: usize,
    failures: u64,
}

struct Slot {
    scatter: Scatter,
    operation: Operation,
    tag: u64,
    done: usize,
    tries: u8,
}

impl Uring {
    /// A ring for `depth` requests at a time to `file`, which it keeps open.
    ///
    /// # Errors
    /// The host has no io_uring, forbids it, or has no room for another ring.
    pub fn new(file: BorrowedFd<'_>, depth: u16) -> io::Result<Self> {
        let ring = ring(depth)?;
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_submit_stable() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "io_uring is of before Linux 5.5",
            ));
        }
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let file = file.try_clone_to_owned()?;
        ring.submitter().register_eventfd(event.as_fd().as_raw_fd())?;
        let slots = (0..depth).map(|_| None).collect();
        // The first are used first, so that few stay few.
        let free = (0..depth).rev().collect();
        Ok(Self { ring, event, file, slots, free, queued: 0, failures: 0 })
    }

    /// A descriptor that becomes readable when a request is done; to be watched edge-triggered, and
    /// never read.
    pub fn source(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    /// Whether another request can be started.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Starts `operation` on the places in `memory` that `fill` names, which the kernel uses without
    /// a copy. It is handed over by the next [`run`](Self::run), which also says when it is done, by
    /// its `tag`.
    ///
    /// # Errors
    /// There is no room, or `fill` fails; nothing is started.
    pub fn start(
        &mut self,
        memory: &GuestMemory,
        (operation, tag): (Operation, u64),
        fill: impl FnOnce(&mut Scatter) -> io::Result<()>,
    ) -> io::Result<()> {
        let index = self.free.last().copied().ok_or(io::ErrorKind::WouldBlock)?;
        let Some(place) = self.slots.get_mut(usize::from(index)) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let slot = place.get_or_insert_with(|| {
            let scatter = Scatter::new(memory.clone());
            Box::new(Slot { scatter, operation, tag, done: 0, tries: 0 })
        });
        slot.scatter.clear();
        fill(&mut slot.scatter)?;
        (slot.operation, slot.tag, slot.done, slot.tries) = (operation, tag, 0, 0);
        let entry = slot.entry(index, &self.file)?;
        // The slot is the kernel's from here on.
        self.free.pop();
        self.push(&entry);
        Ok(())
    }

    /// Hands over what was started, in one system call, and calls `done` with each request that is
    /// done by now: its tag, how many bytes of it were, and why not all.
    pub fn run(&mut self, mut done: impl FnMut(u64, usize, io::Result<()>)) {
        loop {
            if let Err(error) = self.submit() {
                self.failures = self.failures.saturating_add(1);
                if self.failures.is_power_of_two() {
                    let count = self.failures;
                    log::warn!("io_uring takes no requests: {error} ({count} times so far)");
                }
                // Whoever waits for the source tries again.
                let _ = self.event.write(1);
                self.reap(&mut done);
                return;
            }
            self.reap(&mut done);
            if self.queued == 0 {
                return;
            }
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        while self.queued > 0 {
            match self.ring.submit() {
                Ok(count) => self.queued = self.queued.saturating_sub(count.max(1)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn reap(&mut self, done: &mut impl FnMut(u64, usize, io::Result<()>)) {
        loop {
            let Some(answer) = self.ring.completion().next() else { return };
            let Ok(index) = u16::try_from(answer.user_data()) else { continue };
            let slot = self.slots.get_mut(usize::from(index)).and_then(Option::as_mut);
            let Some(slot) = slot else { continue };
            match slot.answered(answer.result()) {
                Some(result) => {
                    let (tag, bytes) = (slot.tag, slot.done);
                    self.free.push(index);
                    done(tag, bytes, result);
                }
                None => match slot.entry(index, &self.file) {
                    Ok(entry) => self.push(&entry),
                    Err(error) => {
                        let (tag, bytes) = (slot.tag, slot.done);
                        self.free.push(index);
                        done(tag, bytes, Err(error));
                    }
                },
            }
        }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what `entry` points to is a slot's that is not free, so it stays as it is until the
        // kernel has answered, and `drop` waits for that; its file is `file`, which is open as long.
        let pushed = unsafe { self.ring.submission().push(entry) };
        // There are as many entries as slots, so there is room.
        debug_assert!(pushed.is_ok());
        self.queued += 1;
    }
}

/// A ring whose answers come when the thread that asked is in the kernel anyway, or waits there: that
/// saves it interruptions (Linux 5.19).
fn ring(depth: u16) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    match builder.dontfork().setup_coop_taskrun().build(depth.into()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            IoUring::builder().dontfork().build(depth.into())
        }
        built => built,
    }
}

impl Slot {
    /// What the kernel is asked for: the rest of the request.
    fn entry(&self, index: u16, file: &OwnedFd) -> io::Result<squeue::Entry> {
        let file = Fd(file.as_raw_fd());
        let pieces = self.scatter.pieces();
        let list = pieces.as_ptr();
        let count = u32::try_from(pieces.len()).map_err(io::Error::other)?;
        let on = |offset: u64| offset.saturating_add(u64::try_from(self.done).unwrap_or(u64::MAX));
        let entry = match self.operation {
            Operation::Read(at) => opcode::Readv::new(file, list, count).offset(on(at)).build(),
            Operation::Write(at) => opcode::Writev::new(file, list, count).offset(on(at)).build(),
            Operation::WriteThrough(at) => {
                let write = opcode::Writev::new(file, list, count).offset(on(at));
                write.rw_flags(libc::RWF_DSYNC).build()
            }
            Operation::Flush => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
        };
        Ok(entry.user_data(index.into()))
    }

    /// Takes the kernel's answer: what became of the request, if there is nothing left to ask for.
    fn answered(&mut self, answer: i32) -> Option<io::Result<()>> {
        let Ok(count) = usize::try_from(answer) else {
            let error = io::Error::from_raw_os_error(answer.saturating_neg());
            let again = [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock];
            // The thread that had asked has ended before the kernel was done.
            let orphaned = [libc::ECANCELED, libc::EFAULT].contains(&answer.saturating_neg());
            self.tries = self.tries.saturating_add(1);
            if (orphaned || again.contains(&error.kind())) && self.tries < TRIES {
                return None;
            }
            return Some(Err(error));
        };
        if self.operation == Operation::Flush {
            return Some(Ok(()));
        }
        if matches!(self.operation, Operation::Read(_)) {
            self.scatter.mark_dirty(count);
        }
        self.done = self.done.saturating_add(count);
        if count >= self.scatter.bytes() {
            return Some(Ok(()));
        }
        if count == 0 {
            let kind = match self.operation {
                Operation::Read(_) => io::ErrorKind::UnexpectedEof,
                _ => io::ErrorKind::WriteZero,
            };
            return Some(Err(kind.into()));
        }
        self.scatter.skip(count);
        None
    }
}

impl Drop for Uring {
    /// Waits for the kernel to be done with the guest's memory.
    fn drop(&mut self) {
        self.run(|_, _, _| ());
        while self.in_flight() > 0 {
            if let Err(error) = self.ring.submit_and_wait(1)
                && error.kind() != io::ErrorKind::Interrupted
            {
                // What it still points to is never given back.
                let slots = std::mem::take(&mut self.slots);
                std::mem::forget(slots);
                return;
            }
            self.reap(&mut |_, _, _| ());
        }
    }
}

/// The [source](Uring::source), as long as the ring is there.
impl AsFd for Uring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
