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
    collections::VecDeque,
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use io_uring::{
    IoUring, opcode, squeue,
    types::{Fd, FsyncFlags},
};
use memory::{GuestMemory, Scatter};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
    unistd::fdatasync,
};

/// How often the kernel is asked again that says "not now" (`EAGAIN`): for each request, and in a row
/// when requests are handed over.
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
///
/// Should the kernel refuse to take any (the call fails, not a request), then what it has not taken,
/// and all that is started from then on, is read and written one by one by [`run`](Self::run) itself.
/// What it had taken before stays under way until it has answered.
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
    /// The slots of entries that the kernel has not taken, in the order of the ring.
    queued: VecDeque<u16>,
    /// Calls in a row of which the kernel took nothing.
    refusals: u8,
    /// The kernel is asked for nothing any more: what is in the ring now, it must never take, because
    /// the slots are used again.
    refused: bool,
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
        let queued = VecDeque::with_capacity(depth.into());
        Ok(Self { ring, event, file, slots, free, queued, refusals: 0, refused: false })
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
        self.push(index, &entry);
        Ok(())
    }

    /// Whether requests are done one by one, because the kernel has refused to take any.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Hands over what was started, in one system call, and calls `done` with each request that is
    /// done by now: its tag, how many bytes of it were, and why not all.
    pub fn run(&mut self, mut done: impl FnMut(u64, usize, io::Result<()>)) {
        loop {
            let again = self.submit();
            self.reap(&mut done);
            if self.refused {
                self.perform(&mut done);
            }
            if self.queued.is_empty() {
                return;
            }
            if again {
                // Whoever waits for the source tries again.
                let _ = self.event.write(1);
                return;
            }
        }
    }

    /// Hands over what was started; whether the kernel has not taken all of it, and may later.
    fn submit(&mut self) -> bool {
        while !self.queued.is_empty() && !self.refused {
            let error = self.ring.submit().err();
            // Nobody but this call moves the ring's head, and the kernel answers all that is behind
            // it. What is before it, it has not looked at.
            let left = self.ring.submission().len();
            let taken = self.queued.len().saturating_sub(left);
            self.queued.drain(..taken);
            self.refusals = if taken > 0 { 0 } else { self.refusals.saturating_add(1) };
            let errno =
                error.as_ref().map(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
            match errno {
                _ if self.refusals >= TRIES => self.refuse(error.as_ref()),
                None | Some(Errno::EINTR) => {}
                Some(Errno::EAGAIN | Errno::EBUSY) => return true,
                Some(_) => self.refuse(error.as_ref()),
            }
        }
        false
    }

    fn refuse(&mut self, why: Option<&io::Error>) {
        self.refused = true;
        let why = why.map_or_else(|| "it takes none".into(), ToString::to_string);
        log::warn!("io_uring takes no requests any more, they are done one by one now: {why}");
    }

    /// Does what the kernel was not told of.
    fn perform(&mut self, done: &mut impl FnMut(u64, usize, io::Result<()>)) {
        while let Some(index) = self.queued.pop_front() {
            let slot = self.slots.get_mut(usize::from(index)).and_then(Option::as_mut);
            let Some(slot) = slot else { continue };
            let result = slot.perform(self.file.as_fd());
            let (tag, bytes) = (slot.tag, slot.done);
            self.free.push(index);
            done(tag, bytes, result);
        }
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
                    Ok(entry) => self.push(index, &entry),
                    Err(error) => {
                        let (tag, bytes) = (slot.tag, slot.done);
                        self.free.push(index);
                        done(tag, bytes, Err(error));
                    }
                },
            }
        }
    }

    fn push(&mut self, index: u16, entry: &squeue::Entry) {
        self.queued.push_back(index);
        if self.refused {
            return;
        }
        // SAFETY: what `entry` points to is a slot's that is not free, so it stays as it is until the
        // kernel has answered, and `drop` waits for that; its file is `file`, which is open as long.
        // An entry that the kernel refuses to take is never offered again.
        let pushed = unsafe { self.ring.submission().push(entry) };
        // There are as many entries as slots, so there is room.
        debug_assert!(pushed.is_ok());
    }

    /// Returns when the kernel may have answered.
    fn wait(&self) -> io::Result<()> {
        let mut list = [PollFd::new(self.event.as_fd(), PollFlags::POLLIN)];
        match poll(&mut list, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        match self.event.read() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
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

    /// Does the rest of the request here.
    fn perform(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            let on =
                |at: u64| Some(at.saturating_add(u64::try_from(self.done).unwrap_or(u64::MAX)));
            let count = match self.operation {
                Operation::Read(at) => self.scatter.read_from(file, on(at)),
                Operation::Write(at) | Operation::WriteThrough(at) => {
                    self.scatter.write_to(file, on(at))
                }
                Operation::Flush => return Ok(fdatasync(file)?),
            };
            // Pieces of it may have been done by the kernel before.
            let answer = i32::try_from(count?).unwrap_or(i32::MAX);
            if let Some(result) = self.answered(answer) {
                result?;
                if matches!(self.operation, Operation::WriteThrough(_)) {
                    fdatasync(file)?;
                }
                return Ok(());
            }
        }
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
        loop {
            self.run(|_, _, _| ());
            if self.in_flight() == 0 {
                return;
            }
            if let Err(error) = self.wait() {
                log::error!(
                    "guest memory is not given back: io_uring may still write to it: {error}"
                );
                std::mem::forget(std::mem::take(&mut self.slots));
                return;
            }
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
