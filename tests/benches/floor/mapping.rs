//! Memory shared with the kernel or a guest.
#![expect(unsafe_code, reason = "maps memory that others write")]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    ptr::NonNull,
};

/// A mapping of this process, accessed by copies only.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// `len` bytes of the file, shared; or of private zeroes.
    pub(crate) fn new(len: usize, file: Option<&OwnedFd>) -> io::Result<Self> {
        let (flags, fd) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1),
        };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, 0) };
        match NonNull::new(start) {
            Some(place) if start != libc::MAP_FAILED => Ok(Self { start: place.cast(), len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where the mapping starts in this process.
    pub(crate) fn address(&self) -> u64 {
        self.start.addr().get() as u64
    }

    /// Its length, bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The byte at `offset`.
    ///
    /// # Panics
    /// It is not in the mapping.
    #[inline]
    pub(crate) fn byte(&self, offset: usize) -> u8 {
        // SAFETY: `place` gives a mapped byte.
        unsafe { self.place(offset).read_volatile() }
    }

    /// Sets the byte at `offset`.
    ///
    /// # Panics
    /// It is not in the mapping.
    #[inline]
    pub(crate) fn set_byte(&self, offset: usize, value: u8) {
        // SAFETY: `place` gives a mapped byte, to which nobody holds a reference.
        unsafe { self.place(offset).write_volatile(value) }
    }

    /// The four bytes at `offset`, as the host has words.
    ///
    /// # Panics
    /// They are not in the mapping, or `offset` is not a multiple of four.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4) && offset.saturating_add(4) <= self.len);
        let word = self.place(offset).cast::<u32>();
        // SAFETY: four mapped bytes, aligned because a mapping starts at a page.
        unsafe { word.read_volatile() }
    }

    /// Sets the bytes from `offset` on.
    ///
    /// # Panics
    /// They are not in the mapping.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        bytes.iter().zip(offset..).for_each(|(byte, at)| self.set_byte(at, *byte));
    }

    #[inline]
    fn place(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len);
        // SAFETY: inside the mapping, by the assertion.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which nobody holds a reference.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
