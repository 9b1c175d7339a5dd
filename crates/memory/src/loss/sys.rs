//! The system calls, all of which a signal handler may make.
#![expect(unsafe_code, reason = "replaces mappings and handles a signal; both have no safe form")]

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use nix::{
    errno::Errno,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

/// What handled the signal before.
static BEFORE: OnceLock<SigAction> = OnceLock::new();

/// The number of a file's descriptor, which is its own as long as the file's memory is watched.
#[derive(Debug, Default)]
pub(super) struct Descriptor(AtomicI32);

impl Descriptor {
    pub(super) fn set(&self, file: &File) {
        self.0.store(file.as_raw_fd(), Ordering::Release);
    }

    /// The length of a regular file, bytes.
    pub(super) fn len(&self) -> Option<u64> {
        // SAFETY: `stat` is plain data, for which zeroes are a value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        let descriptor = self.0.load(Ordering::Acquire);
        // SAFETY: `stat` has room for what the kernel writes. A number that is no descriptor, or
        // another's, is an error or another length, and nothing worse.
        let done = unsafe { libc::fstat(descriptor, &raw mut stat) } == 0;
        let regular = done && stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        regular.then_some(stat.st_size).and_then(|size| u64::try_from(size).ok())
    }
}

/// Whether the host gives the pages of watched memory (`MADV_POPULATE_WRITE`, Linux 5.14; an older one
/// never says so).
pub(super) fn is_there(start: usize, len: usize) -> bool {
    let start = std::ptr::without_provenance_mut(start);
    // SAFETY: an advice about mapped memory, which leaves its bytes as they are.
    unsafe { libc::madvise(start, len, libc::MADV_POPULATE_WRITE) == 0 }
}

/// Puts private memory of zeroes in the place of watched memory.
pub(super) fn replace(start: usize, len: usize) -> bool {
    let start = std::ptr::without_provenance_mut(start);
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the caller has found all of it in a region that is watched, whose `Watch` owns the
    // mapping. It stays mapped, readable and writable, and its bytes, which a guest may change at any
    // time, are reached by volatile access only. Unmapping the region unmaps this too.
    let place = unsafe { libc::mmap(start, len, access, flags, -1, 0) };
    place != libc::MAP_FAILED
}

/// Handles `SIGBUS` for the process, from the first call on.
pub(super) fn handle_signals() -> io::Result<()> {
    static HANDLED: Mutex<bool> = Mutex::new(false);
    let mut handled = HANDLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *handled {
        return Ok(());
    }
    // On the other stack that threads have: the usual one may be what is broken.
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(handle), flags, SigSet::empty());
    // SAFETY: the handler reads statics and atomics and makes system calls that are async-signal-safe;
    // it neither allocates nor locks anything that interrupted code may hold.
    let before = unsafe { sigaction(Signal::SIGBUS, &action) }?;
    // A signal in between finds nothing, and the default is what it gets.
    BEFORE.get_or_init(|| before);
    *handled = true;
    Ok(())
}

extern "C" fn handle(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel gives a handler of this kind the description of the signal.
    let info = unsafe { &*info };
    // SAFETY: each description of this signal has an address.
    let address = unsafe { info.si_addr() }.addr();
    if info.si_code != libc::BUS_ADRERR || !super::mend_address(address) {
        give_back();
    }
    Errno::set_raw(errno);
}

/// Lets whoever handled the signal before handle this one: the access is made again, and fails again.
fn give_back() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: this is the handler that the process had, or the one that every process begins with.
    let _ = unsafe { sigaction(Signal::SIGBUS, BEFORE.get().unwrap_or(&default)) };
}
