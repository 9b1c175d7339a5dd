//! Places in RAM, looked up once: to copy from and to, and for one vectored system call without a copy
//! in between. Unsafe: it keeps pointers, into mappings that are kept as long.
#![expect(
    unsafe_code,
    reason = "places are looked up once and kept as pointers, into mappings that are held"
)]

mod home;
mod stretch;

use std::{
    cell::Cell,
    fmt, io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use home::Home;
use libc::iovec;
pub use stretch::Stretch;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, VolatileSlice,
    bitmap::{Bitmap, BitmapSlice},
    guest_memory::Error,
    mmap::MmapRegion,
};

use crate::{GuestMemory, Marks, Region};

/// Places in guest RAM, one after the other.
///
/// It keeps RAM mapped as long as it lives. What is copied, and what the kernel does to the bytes, races
/// with the guest, as everything a device does to RAM may; nothing in this process ever refers to them.
pub struct Scatter {
    memory: GuestMemory,
    /// The region that was last looked up: the next place is mostly in it, too.
    home: Cell<Option<Home>>,
    /// Each place as the kernel takes it, in our address space.
    pieces: Vec<iovec>,
    bytes: usize,
    /// The region of the last place, which the next one may continue.
    open: Option<*const Region>,
}

// SAFETY: the pointers in `pieces` and `home` point to regions and into mappings that `memory`, which may
// go to any thread, keeps; what is in the mappings is only accessed as volatile, or by the kernel.
unsafe impl Send for Scatter {}

impl Scatter {
    /// No places yet, in `memory`.
    pub fn new(memory: GuestMemory) -> Self {
        let home = Cell::new(None);
        Self { memory, home, pieces: Vec::new(), bytes: 0, open: None }
    }

    /// All of RAM.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Forgets the places, and keeps the room for them.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
        self.open = None;
    }

    /// Has the next bytes begin a new place, wherever they are.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Adds `len` bytes at `addr`: a place, or one for each mapping that they lie in, or more of the last
    /// place if they follow it in RAM. The fewer places, the less there is to do for each request; buffers
    /// of a kernel follow each other often.
    ///
    /// # Errors
    /// They are not all in RAM; nothing is added then.
    // Always: for each buffer of each chain, and the call would cost as much as the rest.
    #[inline(always)]
    pub fn push(&mut self, addr: GuestAddress, len: usize) -> Result<(), Error> {
        // One region has it all: the usual case, and much cheaper than to ask for several.
        if let Some((home, offset)) = self.home(addr, len) {
            let iov_base = home.base.wrapping_add(offset).cast();
            self.add(home.region, iovec { iov_base, iov_len: len });
            return Ok(());
        }
        self.push_several(addr, len)
    }

    #[cold]
    fn push_several(&mut self, addr: GuestAddress, len: usize) -> Result<(), Error> {
        let memory = Arc::clone(&self.memory);
        let slices = memory.get_slices(addr, len).map(|slice| slice.map(|slice| piece(&slice)));
        let pieces = slices.collect::<Result<Vec<_>, _>>()?;
        self.close();
        self.bytes = self.bytes.saturating_add(len);
        self.pieces.extend(pieces);
        Ok(())
    }

    /// Adds `len` bytes of place number `place` of `other`, from `offset` on.
    ///
    /// # Errors
    /// There are fewer, or they are not in this RAM.
    pub fn push_part(
        &mut self,
        other: &Self,
        place: usize,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        let piece = other.cut(place, offset, len).ok_or(Error::InvalidBackendAddress)?;
        let (home, _) = other.home_of(&piece).ok_or(Error::InvalidBackendAddress)?;
        if !Arc::ptr_eq(&self.memory, &other.memory) {
            let addr = other.address(&piece).ok_or(Error::InvalidBackendAddress)?;
            return self.push(addr, len);
        }
        self.add(home.region, piece);
        Ok(())
    }

    #[inline]
    fn add(&mut self, region: *const Region, piece: iovec) {
        self.bytes = self.bytes.saturating_add(piece.iov_len);
        if self.open == Some(region)
            && let Some(last) = self.pieces.last_mut()
            && last.iov_base.addr() + last.iov_len == piece.iov_base.addr()
        {
            last.iov_len += piece.iov_len;
            return;
        }
        self.open = Some(region);
        self.pieces.push(piece);
    }

    /// Forgets the first `count` bytes, of which a system call has done so many: the next one goes on
    /// behind them.
    pub fn skip(&mut self, count: usize) {
        let mut left = count;
        let whole = self.pieces.iter().take_while(|piece| take(&mut left, piece.iov_len)).count();
        self.pieces.drain(..whole);
        if let Some(piece) = self.pieces.first_mut() {
            *piece = shortened(*piece, left);
        }
        self.bytes = self.bytes.saturating_sub(count);
    }

    /// How many bytes the places have together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where place number `place` is, and how many bytes it has.
    pub fn place(&self, place: usize) -> Option<(GuestAddress, usize)> {
        let piece = self.pieces.get(place)?;
        Some((self.address(piece)?, piece.iov_len))
    }

    /// The places as the kernel takes them, for system calls that this type does not make, such as
    /// those of io_uring. The pointers in it are good until this is cleared, added to or dropped, and
    /// for the kernel only. Whoever has the kernel fill them calls [`mark_dirty`](Self::mark_dirty)
    /// when it is done.
    pub fn pieces(&self) -> &[iovec] {
        &self.pieces
    }

    /// Copies bytes of place number `place`, from `offset` on.
    ///
    /// # Errors
    /// There are fewer; nothing is copied then.
    pub fn read(&self, place: usize, offset: usize, buf: &mut [u8]) -> Result<(), Error> {
        self.slice(place, offset, buf.len())?.copy_to(buf);
        Ok(())
    }

    /// Copies bytes to place number `place`, from `offset` on.
    ///
    /// # Errors
    /// There is less room; nothing is copied then.
    pub fn write(&self, place: usize, offset: usize, buf: &[u8]) -> Result<(), Error> {
        let slice = self.slice(place, offset, buf.len())?;
        slice.copy_from(buf);
        if let Some(piece) = self.cut(place, offset, buf.len()) {
            self.mark_piece(&piece, |marks, offset| marks.mark_dirty(offset, buf.len()));
        }
        Ok(())
    }

    fn slice(&self, place: usize, offset: usize, len: usize) -> Result<VolatileSlice<'_>, Error> {
        let cut = self.cut(place, offset, len).ok_or(Error::InvalidBackendAddress)?;
        // SAFETY: the bytes lie in a mapping that `memory` keeps, and are accessed as volatile only.
        Ok(unsafe { VolatileSlice::new(cut.iov_base.cast(), cut.iov_len) })
    }

    /// `len` bytes of a place, if it has so many behind `offset`.
    fn cut(&self, place: usize, offset: usize, len: usize) -> Option<iovec> {
        let piece = self.pieces.get(place)?;
        if offset.checked_add(len)? > piece.iov_len {
            return None;
        }
        Some(iovec { iov_len: len, ..shortened(*piece, offset) })
    }

    /// All places, for one system call.
    fn whole(&self) -> Stretch<'_> {
        self.stretch(0, 0, self.bytes)
    }

    /// The `count` bytes from `offset` of place number `place` on, or as many as there are, for one
    /// system call.
    pub fn stretch(&self, place: usize, offset: usize, count: usize) -> Stretch<'_> {
        Stretch::new(self, (place, offset), count)
    }

    /// Fills the places from `fd`: see [`Stretch::read_from`].
    ///
    /// # Errors
    /// See there.
    pub fn read_from(&self, fd: BorrowedFd<'_>, offset: Option<u64>) -> io::Result<usize> {
        self.whole().read_from(fd, offset)
    }

    /// Writes the places to `fd`: see [`Stretch::write_to`].
    ///
    /// # Errors
    /// See there.
    pub fn write_to(&self, fd: BorrowedFd<'_>, offset: Option<u64>) -> io::Result<usize> {
        self.whole().write_to(fd, offset)
    }

    /// The region that has `len` bytes at `addr`, and where in it they are.
    #[inline]
    fn home(&self, addr: GuestAddress, len: usize) -> Option<(Home, usize)> {
        if let Some(home) = self.home.get()
            && let Some(offset) = home.offset(addr, len)
        {
            return Some((home, offset));
        }
        self.look_up(addr, len)
    }

    fn look_up(&self, addr: GuestAddress, len: usize) -> Option<(Home, usize)> {
        let home = Home::new(self.memory.find_region(addr)?)?;
        self.home.set(Some(home));
        Some((home, home.offset(addr, len)?))
    }

    /// The region that a piece is in, and where in it.
    #[inline]
    fn home_of(&self, piece: &iovec) -> Option<(Home, usize)> {
        let at = piece.iov_base.addr();
        let own = |home: Home| Some((home, home.place(at)?));
        self.home.get().and_then(own).or_else(|| {
            let found = self.memory.iter().filter_map(Home::new).find_map(own)?;
            self.home.set(Some(found.0));
            Some(found)
        })
    }

    fn address(&self, piece: &iovec) -> Option<GuestAddress> {
        let (home, offset) = self.home_of(piece)?;
        Some(GuestAddress(home.start.checked_add(u64::try_from(offset).ok()?)?))
    }

    /// Has `mark` see to the marks of the region of a piece, and where it is there.
    #[inline]
    fn mark_piece(&self, piece: &iovec, mark: impl FnOnce(&Marks, usize)) {
        if let Some((home, offset)) = self.home_of(piece) {
            // SAFETY: `memory` keeps its regions, where they are, as long as this lives.
            let region = unsafe { &*home.region };
            mark(MmapRegion::bitmap(region), offset);
        }
    }

    /// Marks the first `count` bytes of the places as written.
    pub fn mark_dirty(&self, count: usize) {
        self.mark(0, 0, count);
    }

    /// Marks `count` bytes from `offset` of place number `place` on as written.
    fn mark(&self, place: usize, mut offset: usize, mut count: usize) {
        // What was written must be seen by whoever takes a mark that is found set here.
        fence(Ordering::SeqCst);
        for piece in self.pieces.get(place..).unwrap_or_default() {
            let piece = shortened(*piece, std::mem::take(&mut offset));
            let len = piece.iov_len.min(count);
            if len == 0 {
                return;
            }
            self.mark_piece(&piece, |marks, offset| marks.mark_fenced(offset, len));
            count -= len;
        }
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

/// What is left of `piece` behind its first `count` bytes.
fn shortened(piece: iovec, count: usize) -> iovec {
    let count = count.min(piece.iov_len);
    iovec { iov_base: piece.iov_base.wrapping_byte_add(count), iov_len: piece.iov_len - count }
}

impl fmt::Debug for Scatter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = (0..self.pieces.len()).map(|place| self.place(place)).collect();
        f.debug_struct("Scatter").field("places", &places).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::fd::AsFd};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::{stretch::MOST, *};
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
    fn bytes_that_follow_the_last_place_are_part_of_it() {
        let mut scatter = Scatter::new(ram().memory());
        let push = |scatter: &mut Scatter, addr: u64, len: usize| {
            scatter.push(GuestAddress(addr), len).unwrap();
        };
        push(&mut scatter, 0x100, 2);
        push(&mut scatter, 0x102, 6);
        assert_eq!((scatter.pieces().len(), scatter.bytes()), (1, 8));
        assert_eq!(scatter.place(0), Some((GuestAddress(0x100), 8)));
        push(&mut scatter, 0x109, 1);
        scatter.close();
        push(&mut scatter, 0x10a, 1);
        push(&mut scatter, 0x100, 1);
        assert_eq!((scatter.pieces().len(), scatter.bytes()), (4, 11));
        // Wherever the two mappings are: each place is in one of them.
        push(&mut scatter, REGION as u64 - 1, 1);
        push(&mut scatter, REGION as u64, 1);
        assert_eq!(scatter.place(4), Some((GuestAddress(REGION as u64 - 1), 1)));
        assert_eq!(scatter.place(5), Some((GuestAddress(REGION as u64), 1)));
    }

    #[test]
    fn a_part_of_another_scatter_is_the_same_bytes() {
        let (ram, other) = (ram(), ram());
        let mut from = Scatter::new(ram.memory());
        from.push(GuestAddress(0x100), 8).unwrap();
        let mut same = Scatter::new(ram.memory());
        same.push_part(&from, 0, 2, 3).unwrap();
        same.write(0, 0, b"abc").unwrap();
        assert_eq!(ram.memory().read_obj::<[u8; 4]>(GuestAddress(0x102)).unwrap(), *b"abc\0");
        assert!(same.push_part(&from, 0, 6, 3).is_err() && same.push_part(&from, 1, 0, 1).is_err());
        // In other RAM: the same address there.
        let mut elsewhere = Scatter::new(other.memory());
        elsewhere.push_part(&from, 0, 2, 3).unwrap();
        elsewhere.write(0, 0, b"xyz").unwrap();
        assert_eq!(other.memory().read_obj::<[u8; 3]>(GuestAddress(0x102)).unwrap(), *b"xyz");
        assert_eq!(ram.memory().read_obj::<[u8; 3]>(GuestAddress(0x102)).unwrap(), *b"abc");
    }

    #[test]
    fn bytes_are_copied_within_a_place_only() {
        let mut scatter = Scatter::new(ram().memory());
        scatter.push(GuestAddress(0x100), 4).unwrap();
        scatter.write(0, 1, b"abc").unwrap();
        let mut found = [0; 4];
        scatter.read(0, 0, &mut found).unwrap();
        assert_eq!(&found, b"\0abc");
        assert!(scatter.write(0, 2, b"abc").is_err() && scatter.write(1, 0, b"a").is_err());
        assert!(scatter.read(0, usize::MAX, &mut found[..2]).is_err());
        scatter.skip(1);
        scatter.read(0, 0, &mut found[..3]).unwrap();
        assert_eq!(&found, b"abcc");
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
