//! Memory over a file that somebody cuts short, or whose pages the host cannot give any more.
//!
//! Touching such memory is fatal as it is: this process gets a signal (`SIGBUS`), and a vCPU that does it
//! cannot go on: either KVM says so, or, where it can wait for a page without the vCPU, it tries again and
//! again for good. Where there is a [`Watch`], what is lost is replaced by memory that reads as zero,
//! belongs to this process only, and is never the file's again.
//!
//! Three things lead to that: somebody changed the file, which the host tells to whoever polls the
//! [`source`](Watch::source) (soon, but it is too late for accesses in between, and file systems in the
//! network do not tell); the signal; and what KVM says.

mod sys;

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryRegion, MemoryRegionAddress};

use crate::{Ram, Region};

/// The size of ordinary pages on x86-64, bytes.
const PAGE: usize = 4 << 10;
/// The most single pages that are replaced in one region: each may cost the host a mapping, of which a
/// process has some 65 000.
const MOST_PAGES: u64 = 4096;

/// The regions that are watched. A signal handler walks it, so nothing is ever taken out; what is free is
/// used again.
static FIRST: OnceLock<&'static Entry> = OnceLock::new();
/// How often something was replaced.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Watches one region of RAM over a file: what the file loses, the guest and this process find as
/// zeroes, and go on.
///
/// The first one handles `SIGBUS` for the process; signals that have nothing to do with watched memory
/// go to the handler that was there before.
pub struct Watch {
    /// Mapped as long as it is watched.
    region: Arc<Region>,
    entry: &'static Entry,
    changes: Option<Inotify>,
}

/// A region by its addresses in this process. What is not atomic by itself changes only while `busy`,
/// and while nothing is watched.
#[derive(Debug, Default)]
struct Entry {
    start: AtomicUsize,
    end: AtomicUsize,
    file: sys::Descriptor,
    /// Where in the file the region starts.
    offset: AtomicU64,
    watched: AtomicBool,
    /// Somebody replaces memory of it, or begins or ends to watch.
    busy: AtomicBool,
    /// How many bytes are lost at the end, and how many pages by themselves.
    tail: AtomicU64,
    pages: AtomicU64,
    next: OnceLock<&'static Entry>,
}

impl Watch {
    /// Watches the region of `ram` that starts at `start`.
    ///
    /// # Errors
    /// No region over a file starts there, or the host does not let signals be handled.
    pub fn new(ram: &Ram, start: GuestAddress) -> io::Result<Self> {
        let nothing = || {
            let why = format!("no memory over a file starts at {:#x}", start.0);
            io::Error::new(io::ErrorKind::NotFound, why)
        };
        let region = ram.regions().find(|region| region.start_addr() == start);
        let region = region.ok_or_else(nothing)?;
        let file = region.file_offset().ok_or_else(nothing)?;
        let host = region.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)?;
        let len = usize::try_from(region.len()).map_err(io::Error::other)?;
        let changes = changes(file.file()).ok();
        sys::handle_signals()?;
        let place = (host.addr(), host.addr().saturating_add(len));
        let entry = Entry::taken(|entry| entry.begin(place, file));
        let watch = Self { region, entry, changes };
        // It may have been cut before.
        watch.check();
        Ok(watch)
    }

    /// Becomes readable when somebody has changed the file, other than through memory: time for a
    /// [`check`](Self::check). `None` if the host has no inotify instance left for this user, of which
    /// there are usually 128.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(AsFd::as_fd)
    }

    /// Replaces what the file has lost at its end: whether that was anything new.
    pub fn check(&self) -> bool {
        // What has changed is not told, only that something has; until there is nothing to read, as
        // edge-triggered polling wants it.
        let news = |changes: &Inotify| changes.read_events().is_ok_and(|events| !events.is_empty());
        while self.changes.as_ref().is_some_and(news) {}
        self.entry.exclusive(Entry::mend_end)
    }

    /// The region.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// How many bytes of it are the file's no more, and read as zero until they are written.
    pub fn lost(&self) -> u64 {
        let pages = self.entry.pages.load(Ordering::Acquire).saturating_mul(PAGE as u64);
        let bytes = self.entry.tail.load(Ordering::Acquire).saturating_add(pages);
        bytes.min(self.region.len())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.entry.exclusive(|entry| entry.watched.swap(false, Ordering::AcqRel));
    }
}

/// What tells that somebody has written to `file` or cut it.
fn changes(file: &File) -> io::Result<Inotify> {
    let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    changes.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY)?;
    Ok(changes)
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    std::iter::successors(FIRST.get().copied(), |entry| entry.next.get().copied())
}

fn watched() -> impl Iterator<Item = &'static Entry> {
    entries().filter(|entry| entry.watched.load(Ordering::Acquire))
}

/// How often watched memory was replaced in this process: whoever failed to use memory tries again if
/// this is another number than before.
pub fn count() -> u64 {
    COUNT.load(Ordering::Acquire)
}

/// A vCPU could not use the memory at `offset` of `region`: whether it can now, because the memory is
/// watched and was replaced, or is there again.
pub fn mend(region: &Region, offset: MemoryRegionAddress) -> bool {
    let host = region.get_host_address(offset);
    host.is_ok_and(|host| mend_address(host.addr()))
}

/// A vCPU could not use memory, of which the host does not say where it is: replaces what watched files
/// have lost by being cut. Whether it was any.
pub fn mend_all() -> bool {
    // All of them: this is no place to stop at the first.
    watched().fold(false, |any, entry| entry.exclusive(Entry::mend_end) | any)
}

/// The same for an address in this process. Async-signal-safe.
fn mend_address(address: usize) -> bool {
    let mut found = watched().filter(|entry| entry.has(address));
    found.any(|entry| entry.exclusive(|entry| entry.mend_at(address)))
}

impl Entry {
    /// An entry that `begin` has taken: one that is free, or a new one.
    fn taken(begin: impl Fn(&Self) -> bool) -> &'static Self {
        if let Some(free) = entries().find(|entry| entry.exclusive(&begin)) {
            return free;
        }
        let entry: &'static Self = Box::leak(Box::default());
        begin(entry);
        let mut place = &FIRST;
        while place.set(entry).is_err() {
            let Some(taken) = place.get() else { break };
            place = &taken.next;
        }
        entry
    }

    /// Watches what lies in `file` and from the first to the second address here; false if it watches
    /// something already.
    fn begin(&self, (start, end): (usize, usize), file: &FileOffset) -> bool {
        if self.watched.load(Ordering::Acquire) {
            return false;
        }
        self.start.store(start, Ordering::Release);
        self.end.store(end, Ordering::Release);
        self.file.set(file.file());
        self.offset.store(file.start(), Ordering::Release);
        self.tail.store(0, Ordering::Release);
        self.pages.store(0, Ordering::Release);
        self.watched.store(true, Ordering::Release);
        true
    }

    fn start(&self) -> usize {
        self.start.load(Ordering::Acquire)
    }

    fn end(&self) -> usize {
        self.end.load(Ordering::Acquire)
    }

    /// Whether `address` is in it, and watched.
    fn has(&self, address: usize) -> bool {
        self.watched.load(Ordering::Acquire) && (self.start()..self.end()).contains(&address)
    }

    /// Does `work` while nobody else does any on this entry. Spins: a signal handler cannot wait, and
    /// whoever works makes two system calls and touches no memory that could be lost.
    fn exclusive(&self, work: impl FnOnce(&Self) -> bool) -> bool {
        while self.busy.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let done = work(self);
        self.busy.store(false, Ordering::Release);
        done
    }

    fn mend_at(&self, address: usize) -> bool {
        // Looked at before, but not while nothing could change.
        if !self.has(address) {
            return false;
        }
        let page = address - address % PAGE;
        // Another thread was quicker, or the file is long enough again.
        if self.is_replaced(page) || sys::is_there(page, PAGE) {
            return true;
        }
        self.mend_end() && self.is_replaced(page) || self.mend_page(page)
    }

    /// Whether `page` is in the part at the end that was replaced.
    fn is_replaced(&self, page: usize) -> bool {
        page >= self.kept()
    }

    /// Where what is still the file's ends.
    fn kept(&self) -> usize {
        let tail = usize::try_from(self.tail.load(Ordering::Acquire));
        self.end().saturating_sub(tail.unwrap_or(usize::MAX))
    }

    /// The first address beyond the end of the file; `end` if it is as long as it was, or has no
    /// length (a block device).
    fn lost_from(&self) -> usize {
        let left =
            self.file.len().map(|len| len.saturating_sub(self.offset.load(Ordering::Acquire)));
        let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let first = left.checked_next_multiple_of(PAGE).unwrap_or(usize::MAX);
        self.start().saturating_add(first).min(self.end())
    }

    /// Replaces what is beyond the end of the file and was not replaced before.
    fn mend_end(&self) -> bool {
        if !self.watched.load(Ordering::Acquire) {
            return false;
        }
        let (from, until) = (self.lost_from(), self.kept());
        if from >= until || !sys::replace(from, until - from) {
            return false;
        }
        self.tail.store((self.end() - from) as u64, Ordering::Release);
        COUNT.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Replaces one page that the host cannot give: its disk is full, or broken.
    fn mend_page(&self, page: usize) -> bool {
        if self.pages.load(Ordering::Acquire) >= MOST_PAGES || !sys::replace(page, PAGE) {
            return false;
        }
        self.pages.fetch_add(1, Ordering::AcqRel);
        COUNT.fetch_add(1, Ordering::AcqRel);
        true
    }
}
