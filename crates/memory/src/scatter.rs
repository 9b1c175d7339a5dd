//! Places in RAM for one vectored system call, without a copy in between. Unsafe: the kernel is handed
//! pointers into mappings that are kept as long as it may use them.
#![expect(
    unsafe_code,
    reason = "readv and its kin take pointers; they point into mappings we hold"
)]

use std::{
    fmt, io,
    os::fd::{AsRawFd, BorrowedFd},
};

use libc::iovec;
use smallvec::SmallVec;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, VolatileSlice,
    bitmap::{Bitmap, BitmapSlice},
    guest_memory,
};

use crate::GuestMemory;

/// The most pieces that one system call takes (`UIO_MAXIOV`).
const MOST: usize = 1024;
/// This many pieces cost no allocation.
const FEW: usize = 32;

/// Places in guest RAM, in the order in which one system call fills or reads them (`readv(2)`).
///
/// It keeps RAM mapped as long as it lives. What the kernel does to the bytes races with the guest, as
/// everything a device does to RAM may; nothing in this process ever refers to them.
pub struct Scatter {
    memory: GuestMemory,
    places: SmallVec<[(GuestAddress, usize); FEW]>,
    pieces: SmallVec<[iovec; FEW]>,
    bytes: usize,
}

// SAFETY: the pointers in `pieces` are for the kernel only, and point into mappings that `memory`,
// which may go to any thread, keeps.
unsafe impl Send for Scatter {}

impl Scatter {
    /// No places yet, in `memory`.
    pub fn new(memory: GuestMemory) -> Self {
        Self { memory, places: SmallVec::new(), pieces: SmallVec::new(), bytes: 0 }
    }

    /// Forgets the places, and keeps the room for them.
    pub fn clear(&mut self) {
        self.places.clear();
        self.pieces.clear();
        self.bytes = 0;
    }

    /// Adds `len` bytes at `addr`.
    ///
    /// # Errors
    /// They are not all in RAM; nothing is added then.
    pub fn push(&mut self, addr: GuestAddress, len: usize) -> Result<(), guest_memory::Error> {
        let before = self.pieces.len();
        // One region has it all: the usual case, and much cheaper than to ask for several.
        if let Ok(slice) = self.memory.get_slice(addr, len) {
            self.pieces.push(piece(&slice));
        } else {
            for slice in self.memory.get_slices(addr, len) {
                match slice {
                    Ok(slice) => self.pieces.push(piece(&slice)),
                    Err(error) => {
                        self.pieces.truncate(before);
                        return Err(error);
                    }
                }
            }
        }
        self.places.push((addr, len));
        self.bytes = self.bytes.saturating_add(len);
        Ok(())
    }

    /// Forgets the first `count` bytes, of which a system call has done so many: the next one goes on
    /// behind them.
    pub fn skip(&mut self, count: usize) {
        let mut left = count;
        let whole = self.pieces.iter().take_while(|piece| take(&mut left, piece.iov_len)).count();
        self.pieces.drain(..whole);
        if let Some(first) = self.pieces.first_mut() {
            first.iov_base = first.iov_base.wrapping_byte_add(left);
            first.iov_len -= left;
        }
        let mut left = count;
        let whole = self.places.iter().take_while(|(_, len)| take(&mut left, *len)).count();
        self.places.drain(..whole);
        if let Some((addr, len)) = self.places.first_mut() {
            addr.0 = addr.0.wrapping_add(u64::try_from(left).unwrap_or(0));
            *len -= left;
        }
        self.bytes = self.bytes.saturating_sub(count);
    }

    /// How many bytes the places have together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fills the places from `fd`, in one system call: from `offset` on, or from where the file stands.
    /// How many bytes came; 0 is the file's end. What the kernel touched is marked dirty.
    ///
    /// # Errors
    /// The host's. More than 1024 places are `InvalidInput`.
    pub fn read_from(&self, fd: BorrowedFd<'_>, offset: Option<u64>) -> io::Result<usize> {
        let (fd, list, count) = (fd.as_raw_fd(), self.pieces.as_ptr(), self.count()?);
        let done = match offset.map(offset_of).transpose()? {
            // SAFETY: `list` has `count` pieces, each whole in a mapping that `memory` keeps.
            None => retried(|| unsafe { libc::readv(fd, list, count) }),
            // SAFETY: as above.
            Some(at) => retried(|| unsafe { libc::preadv(fd, list, count, at) }),
        }?;
        self.mark_dirty(done);
        Ok(done)
    }

    /// Writes the places to `fd`, in one system call: from `offset` on, or where the file stands. How
    /// many bytes went.
    ///
    /// # Errors
    /// The host's. More than 1024 places are `InvalidInput`.
    pub fn write_to(&self, fd: BorrowedFd<'_>, offset: Option<u64>) -> io::Result<usize> {
        let (fd, list, count) = (fd.as_raw_fd(), self.pieces.as_ptr(), self.count()?);
        match offset.map(offset_of).transpose()? {
            // SAFETY: `list` has `count` pieces, each whole in a mapping that `memory` keeps.
            None => retried(|| unsafe { libc::writev(fd, list, count) }),
            // SAFETY: as above.
            Some(at) => retried(|| unsafe { libc::pwritev(fd, list, count, at) }),
        }
    }

    /// The places as the kernel takes them, for system calls that this type does not make, such as
    /// those of io_uring. The pointers in it are good until this is cleared, added to or dropped, and
    /// for the kernel only. Whoever has the kernel fill them calls [`mark_dirty`](Self::mark_dirty)
    /// when it is done.
    pub fn pieces(&self) -> &[iovec] {
        &self.pieces
    }

    /// Marks the first `count` bytes of the places as written.
    pub fn mark_dirty(&self, mut count: usize) {
        for &(addr, len) in &self.places {
            let len = len.min(count);
            if len == 0 {
                return;
            }
            if let Ok(slice) = self.memory.get_slice(addr, len) {
                slice.bitmap().mark_dirty(0, len);
            } else {
                for slice in self.memory.get_slices(addr, len).flatten() {
                    slice.bitmap().mark_dirty(0, slice.len());
                }
            }
            count -= len;
        }
    }

    fn count(&self) -> io::Result<libc::c_int> {
        let count = self.pieces.len();
        if count > MOST {
            let why = format!("{count} places in one system call; it takes {MOST}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        libc::c_int::try_from(count).map_err(io::Error::other)
    }
}

/// Whether `left` covers `len`, which is then taken from it.
fn take(left: &mut usize, len: usize) -> bool {
    let rest = left.checked_sub(len);
    *left = rest.unwrap_or(*left);
    rest.is_some()
}

fn piece<B: BitmapSlice>(slice: &VolatileSlice<'_, B>) -> iovec {
    iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() }
}

fn offset_of(offset: u64) -> io::Result<libc::off_t> {
    offset.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn retried(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        // Negative is the one thing that does not fit.
        if let Ok(done) = usize::try_from(call()) {
            return Ok(done);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

impl fmt::Debug for Scatter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scatter").field("places", &self.places).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::fd::AsFd};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;
    use crate::{Backing, Bytes, Ram};

    const REGION: usize = 0x1_0000;

    /// Two regions that touch each other.
    fn ram() -> Ram {
        let second = GuestAddress(REGION as u64);
        Ram::new(&[(GuestAddress(0), REGION), (second, REGION)], Backing::Anonymous).unwrap()
    }

    fn file(content: &[u8]) -> File {
        let mut file = File::from(memfd_create(c"test", MFdFlags::empty()).unwrap());
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn reading_fills_the_places_in_their_order() {
        let ram = ram();
        let mut scatter = Scatter::new(ram.memory());
        scatter.push(GuestAddress(0x200), 2).unwrap();
        scatter.push(GuestAddress(0x100), 3).unwrap();
        let done = scatter.read_from(file(b"-abcdefg").as_fd(), Some(1)).unwrap();
        assert_eq!((done, scatter.bytes()), (5, 5));
        assert_eq!(ram.memory().read_obj::<[u8; 3]>(GuestAddress(0x200)).unwrap(), *b"ab\0");
        assert_eq!(ram.memory().read_obj::<[u8; 4]>(GuestAddress(0x100)).unwrap(), *b"cde\0");
    }

    #[test]
    fn a_place_may_cross_from_one_region_into_the_next() {
        let ram = ram();
        let mut scatter = Scatter::new(ram.memory());
        scatter.push(GuestAddress(REGION as u64 - 1), 2).unwrap();
        assert_eq!(scatter.pieces().len(), 2);
        scatter.read_from(file(b"xy").as_fd(), Some(0)).unwrap();
        let copy = file(b"");
        assert_eq!(scatter.write_to(copy.as_fd(), Some(0)).unwrap(), 2);
        assert_eq!(std::io::read_to_string(&copy).unwrap(), "xy");
    }

    #[test]
    fn what_is_skipped_is_left_alone() {
        let ram = ram();
        for (skipped, expected) in [(0, b"abcd"), (1, b"\0abc"), (2, b"\0\0ab"), (3, b"\0\0\0a")] {
            ram.memory().write_slice(&[0; 8], GuestAddress(0x100)).unwrap();
            let mut scatter = Scatter::new(ram.memory());
            scatter.push(GuestAddress(0x100), 2).unwrap();
            scatter.push(GuestAddress(0x102), 2).unwrap();
            scatter.skip(skipped);
            assert_eq!(scatter.bytes(), 4 - skipped);
            assert_eq!(scatter.read_from(file(b"abcd").as_fd(), Some(0)).unwrap(), 4 - skipped);
            assert_eq!(&ram.memory().read_obj::<[u8; 4]>(GuestAddress(0x100)).unwrap(), expected);
        }
        let mut scatter = Scatter::new(ram.memory());
        scatter.push(GuestAddress(0x100), 2).unwrap();
        scatter.skip(9);
        assert_eq!((scatter.bytes(), scatter.pieces().len()), (0, 0));
    }

    #[test]
    fn what_was_filled_is_dirty_and_what_was_not_is_not() {
        let ram = ram();
        ram.take_dirty(|_, _| Ok::<_, io::Error>(Vec::new())).unwrap();
        let mut scatter = Scatter::new(ram.memory());
        scatter.push(GuestAddress(0x1000), 0x1000).unwrap();
        scatter.push(GuestAddress(0x5000), 0x1000).unwrap();
        scatter.read_from(file(&[1; 0x1000]).as_fd(), Some(0)).unwrap();
        let dirty = ram.take_dirty(|_, _| Ok::<_, io::Error>(Vec::new())).unwrap();
        assert!(dirty.contains(0, 1));
        assert_eq!(dirty.pages(), 1);
    }

    #[test]
    fn a_place_outside_ram_is_refused_and_not_added() {
        let mut scatter = Scatter::new(ram().memory());
        assert!(scatter.push(GuestAddress(2 * REGION as u64 - 1), 2).is_err());
        assert_eq!((scatter.bytes(), scatter.pieces().len()), (0, 0));
    }

    #[test]
    fn more_places_than_a_system_call_takes_are_refused() {
        let mut scatter = Scatter::new(ram().memory());
        for _ in 0..=MOST {
            scatter.push(GuestAddress(0), 1).unwrap();
        }
        let error = scatter.write_to(file(b"").as_fd(), None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        scatter.clear();
        assert_eq!(scatter.write_to(file(b"").as_fd(), None).unwrap(), 0);
    }
}
