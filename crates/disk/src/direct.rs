//! Reading and writing past the page cache.

use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
};

/// The largest block that storage may want things aligned to.
const MOST: usize = 4096;
/// Bytes that go through the buffer at once.
const PIECE: usize = 64 << 10;

/// What a file that is read and written past the page cache wants, and a buffer that is so.
pub(crate) struct Direct {
    align: usize,
    buffer: Vec<u8>,
}

impl Direct {
    /// Switches `file` over.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
        fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_DIRECT)).map_err(|error| match error {
            Errno::EINVAL => io::Error::new(
                ErrorKind::Unsupported,
                "its file system cannot go past the page cache (O_DIRECT)",
            ),
            error => error.into(),
        })?;
        let mut direct = Self { align: 512, buffer: vec![0; PIECE + 2 * MOST] };
        // The kernel tells by refusing; before Linux 6.1 there is no other way to ask.
        while let Err(error) = direct.probe(file) {
            if error.raw_os_error() != Some(libc::EINVAL) || direct.align >= MOST {
                return Err(error);
            }
            direct.align *= 2;
        }
        Ok(direct)
    }

    /// One for storage of `align` bytes a block, which a test does not have.
    #[cfg(test)]
    pub(crate) fn with_blocks(align: usize) -> Self {
        Self { align, buffer: vec![0; PIECE + 2 * MOST] }
    }

    pub(crate) fn align(&self) -> usize {
        self.align
    }

    fn probe(&mut self, file: &File) -> io::Result<usize> {
        let (align, start) = (self.align, self.start());
        // One block behind what is aligned to more, so that no stricter file passes for this one.
        let skip = if (start / align).is_multiple_of(2) { align } else { 0 };
        let start = start.saturating_add(skip);
        let place = self.buffer.get_mut(start..start.saturating_add(align)).unwrap_or_default();
        file.read_at(place, u64::try_from(align).unwrap_or(0))
    }

    /// Where in the buffer the first aligned byte is.
    fn start(&self) -> usize {
        self.buffer.as_ptr().align_offset(self.align)
    }

    /// The aligned range around as much of `len` bytes from `offset` on as fits the buffer: where it
    /// begins, how long it is, where in it the bytes are, and how many.
    fn around(&self, offset: u64, len: usize) -> (u64, usize, usize, usize) {
        let block = u64::try_from(self.align).unwrap_or(1);
        let first = offset - offset % block;
        let skip = usize::try_from(offset - first).unwrap_or(0);
        let count = len.min(PIECE);
        let whole = skip.saturating_add(count).next_multiple_of(self.align);
        (first, whole, skip, count)
    }

    fn fill(&mut self, file: &File, first: u64, whole: usize) -> io::Result<&mut [u8]> {
        let start = self.start();
        let place = self.buffer.get_mut(start..start.saturating_add(whole)).unwrap_or_default();
        file.read_exact_at(place, first)?;
        Ok(place)
    }

    pub(crate) fn read(&mut self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest @ [_, ..]) = buf.get_mut(done..) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let (first, whole, skip, count) = self.around(at, rest.len());
            let place = self.fill(file, first, whole)?;
            let (to, from) = (rest.get_mut(..count), place.get(skip..skip.saturating_add(count)));
            let (Some(to), Some(from)) = (to, from) else { return Err(ErrorKind::Other.into()) };
            to.copy_from_slice(from);
            done = done.saturating_add(count);
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, file: &File, data: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest @ [_, ..]) = data.get(done..) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let (first, whole, skip, count) = self.around(at, rest.len());
            // What lies in the same blocks beside it is written again.
            let place = if skip == 0 && count == whole {
                let start = self.start();
                let end = start.saturating_add(whole);
                self.buffer.get_mut(start..end).unwrap_or_default()
            } else {
                self.fill(file, first, whole)?
            };
            let (to, from) = (place.get_mut(skip..skip.saturating_add(count)), rest.get(..count));
            let (Some(to), Some(from)) = (to, from) else { return Err(ErrorKind::Other.into()) };
            to.copy_from_slice(from);
            file.write_all_at(place, first)?;
            done = done.saturating_add(count);
        }
        Ok(())
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("align", &self.align).finish_non_exhaustive()
    }
}
