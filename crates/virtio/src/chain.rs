//! The buffers of one request, as a device sees them.

use std::{
    fmt,
    io::{self, Read, Write},
    ops::Range,
    os::fd::BorrowedFd,
};

use memory::{GuestAddress, GuestMemory, Scatter, Stretch};
use vm_memory::ByteValued;

use crate::walk::Parts;

/// One request: what the driver wrote, and the room for the answer.
///
/// Its buffers lie in guest RAM, which the guest may change at any time: read a header once, into
/// a value, and use the value.
#[derive(Debug)]
pub struct Chain<'a> {
    /// Number of the first descriptor, which names the request as long as it is in flight.
    pub head: u16,
    /// What the driver wrote.
    pub reader: Reader<'a>,
    /// The room for the answer.
    pub writer: Writer<'a>,
    /// Chains that are served as one: first descriptor and room, in bytes, of each.
    merged: &'a [(u16, u32)],
    /// There are no more of them.
    pub(crate) gathered: bool,
}

impl<'a> Chain<'a> {
    pub(crate) fn new(head: u16, parts: &'a Parts, merged: &'a [(u16, u32)]) -> Self {
        let (scatter, readable) = (parts.scatter(), parts.readable());
        let reader = Reader { cursor: Cursor::new(scatter, 0..readable, parts.input()) };
        let places = readable..scatter.pieces().len();
        let writer = Writer { cursor: Cursor::new(scatter, places, parts.room()) };
        Self { head, reader, writer, merged, gathered: false }
    }

    /// All of guest RAM, for requests that name addresses in it.
    pub fn memory(&self) -> &'a GuestMemory {
        self.reader.cursor.scatter.memory()
    }

    /// Whether there is as much room as there can be now, after [`Served::Gather`](crate::Served::Gather).
    pub fn is_gathered(&self) -> bool {
        self.gathered
    }

    /// How many of the chains that this is made of hold the first `bytes` bytes of its room; 1 at least.
    pub fn chains_for(&self, bytes: usize) -> u16 {
        let mut left = bytes;
        let full = self.merged.iter().take_while(|(_, room)| {
            let room = usize::try_from(*room).unwrap_or(usize::MAX);
            let is_full = room < left;
            left = left.saturating_sub(room);
            is_full
        });
        let chains = full.count().saturating_add(1).min(self.merged.len()).max(1);
        u16::try_from(chains).unwrap_or(u16::MAX)
    }
}

/// Copies out of the readable buffers of a chain, one after the other. Reads that do not fit are
/// short, as with a file.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    cursor: Cursor<'a>,
}

/// Copies into the writable buffers of a chain, one after the other. Writes that do not fit are
/// short, as with a file.
#[derive(Clone, Debug)]
pub struct Writer<'a> {
    cursor: Cursor<'a>,
}

impl Reader<'_> {
    /// How many bytes are left to read.
    pub fn available_bytes(&self) -> usize {
        self.cursor.available
    }

    /// How many bytes were read.
    pub fn bytes_read(&self) -> usize {
        self.cursor.consumed
    }

    /// The next object of a fixed layout; a byte array is one.
    ///
    /// # Errors
    /// The buffers hold fewer bytes.
    pub fn read_obj<T: ByteValued>(&mut self) -> io::Result<T> {
        let mut object = T::zeroed();
        self.read_exact(object.as_mut_slice())?;
        Ok(object)
    }

    /// Adds the places of the next `count` bytes, or of as many as there are, to `scatter`: a way to
    /// them without a copy. They count as read.
    ///
    /// # Errors
    /// None, as long as `scatter` is about the guest's own RAM.
    pub fn gather(&mut self, count: usize, scatter: &mut Scatter) -> io::Result<usize> {
        self.cursor.gather(count, scatter)
    }

    /// Writes the next `count` bytes, or as many as there are, to `fd` in one system call without a
    /// copy: from `offset` of the file on, or where it stands. How many bytes the host took; they
    /// count as read.
    ///
    /// # Errors
    /// The host's.
    pub fn write_to(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        count: usize,
    ) -> io::Result<usize> {
        let done = self.cursor.stretch(count).write_to(fd, offset)?;
        self.cursor.pass(done)
    }

    /// Ends this reader after another `offset` bytes, and gives the rest to a second one.
    ///
    /// # Errors
    /// There are fewer bytes left.
    pub fn split_at(&mut self, offset: usize) -> io::Result<Self> {
        self.cursor.split_at(offset).map(|cursor| Self { cursor })
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let scatter = self.cursor.scatter;
        self.cursor.each(buf.len(), |place, offset, at| match buf.get_mut(at) {
            Some(buf) => scatter.read(place, offset, buf).map_err(io::Error::other),
            None => Err(io::ErrorKind::InvalidInput.into()),
        })
    }
}

impl Writer<'_> {
    /// How many bytes of room are left.
    pub fn available_bytes(&self) -> usize {
        self.cursor.available
    }

    /// How many bytes were written.
    pub fn bytes_written(&self) -> usize {
        self.cursor.consumed
    }

    /// Writes an object of a fixed layout; a byte array is one.
    ///
    /// # Errors
    /// There is less room.
    pub fn write_obj<T: ByteValued>(&mut self, object: T) -> io::Result<()> {
        self.write_all(object.as_slice())
    }

    /// Where the buffers are that are left: address and length of each, in RAM.
    pub fn places(&self) -> impl Iterator<Item = (GuestAddress, u32)> {
        let mut skip = self.cursor.offset;
        let Cursor { scatter, places, .. } = self.cursor.clone();
        places.filter_map(move |place| scatter.place(place)).map(move |(addr, len)| {
            let offset = std::mem::take(&mut skip);
            let addr = addr.0.wrapping_add(u64::try_from(offset).unwrap_or(0));
            (GuestAddress(addr), u32::try_from(len - offset).unwrap_or(u32::MAX))
        })
    }

    /// Adds the places of the next `count` bytes, or of as many as there are, to `scatter`: a way to
    /// them without a copy. They count as written.
    ///
    /// # Errors
    /// None, as long as `scatter` is about the guest's own RAM.
    pub fn gather(&mut self, count: usize, scatter: &mut Scatter) -> io::Result<usize> {
        self.cursor.gather(count, scatter)
    }

    /// Fills the next `count` bytes, or as many as there are, from `fd` in one system call without a
    /// copy: from `offset` of the file on, or where it stands. How many bytes came, 0 at the file's
    /// end; they count as written.
    ///
    /// # Errors
    /// The host's.
    pub fn read_from(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        count: usize,
    ) -> io::Result<usize> {
        let done = self.cursor.stretch(count).read_from(fd, offset)?;
        self.cursor.pass(done)
    }

    /// Fills what is left from `fd`, in one system call without a copy, and what there is no room for
    /// goes to `rest`. How many bytes came, all in all.
    ///
    /// # Errors
    /// The host's; `InvalidInput` if the buffers are too many for one call.
    pub fn read_from_with(&mut self, fd: BorrowedFd<'_>, rest: &mut [u8]) -> io::Result<usize> {
        let done = self.cursor.stretch(self.cursor.available).read_from_with(fd, rest)?;
        self.cursor.pass(done.min(self.cursor.available))?;
        Ok(done)
    }

    /// Copies the first `buf.len()` bytes of what is left back: what the device has put there, or the
    /// guest meanwhile. They don't count as written.
    ///
    /// # Errors
    /// There is less room.
    pub fn read_back(&self, buf: &mut [u8]) -> io::Result<()> {
        Reader { cursor: self.cursor.clone() }.read_exact(buf)
    }

    /// Ends this writer after another `offset` bytes, and gives the rest to a second one.
    ///
    /// # Errors
    /// There is less room.
    pub fn split_at(&mut self, offset: usize) -> io::Result<Self> {
        self.cursor.split_at(offset).map(|cursor| Self { cursor })
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let scatter = self.cursor.scatter;
        self.cursor.each(buf.len(), |place, offset, at| match buf.get(at) {
            Some(buf) => scatter.write(place, offset, buf).map_err(io::Error::other),
            None => Err(io::ErrorKind::InvalidInput.into()),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A place in a list of buffers. Copying goes through the volatile access of guest memory; no
/// reference into it is ever made.
#[derive(Clone)]
struct Cursor<'a> {
    scatter: &'a Scatter,
    /// The places that are not behind the cursor.
    places: Range<usize>,
    /// How much of the first of them is, bytes.
    offset: usize,
    available: usize,
    consumed: usize,
}

impl<'a> Cursor<'a> {
    fn new(scatter: &'a Scatter, places: Range<usize>, available: usize) -> Self {
        Self { scatter, places, offset: 0, available, consumed: 0 }
    }

    /// Calls `copy` for each contiguous piece of the next `count` bytes, or of as many as there
    /// are: the number of its place, where it begins there, and where it is in the whole.
    fn each(
        &mut self,
        count: usize,
        mut copy: impl FnMut(usize, usize, Range<usize>) -> io::Result<()>,
    ) -> io::Result<usize> {
        let count = count.min(self.available);
        let mut done = 0;
        while done < count {
            let Some(piece) = self.scatter.pieces().get(self.places.start) else { break };
            let left = piece.iov_len.saturating_sub(self.offset);
            let step = left.min(count - done);
            copy(self.places.start, self.offset, done..done + step)?;
            done += step;
            self.available -= step;
            self.consumed += step;
            if step == left {
                self.places.start += 1;
                self.offset = 0;
            } else {
                self.offset += step;
            }
        }
        Ok(done)
    }

    fn gather(&mut self, count: usize, into: &mut Scatter) -> io::Result<usize> {
        let from = self.scatter;
        self.each(count, |place, offset, at| {
            into.push_part(from, place, offset, at.len()).map_err(io::Error::other)
        })
    }

    /// The next `count` bytes, or as many as there are, for one system call.
    fn stretch(&self, count: usize) -> Stretch<'a> {
        self.scatter.stretch(self.places.start, self.offset, count.min(self.available))
    }

    /// Goes on behind the next `count` bytes.
    fn pass(&mut self, count: usize) -> io::Result<usize> {
        if count == self.available {
            (self.places.start, self.offset, self.available) = (self.places.end, 0, 0);
            self.consumed += count;
            return Ok(count);
        }
        self.each(count, |_, _, _| Ok(()))
    }

    fn split_at(&mut self, offset: usize) -> io::Result<Self> {
        if offset > self.available {
            let why = format!("cannot split {} bytes at {offset}", self.available);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut rest = self.clone();
        rest.pass(offset)?;
        rest.consumed = 0;
        self.available = offset;
        Ok(rest)
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("places", &self.places)
            .field("available", &self.available)
            .field("consumed", &self.consumed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::net::UnixStream};

    use device::{FakeWiring, Wiring};
    use memory::Bytes;

    use super::*;
    use crate::descriptor::Descriptor;

    const NEXT: u16 = 1;
    const WRITE: u16 = 2;

    /// 3 readable bytes at 0x100, 2 at 0x200; 3 writable bytes at 0x300, 4 at 0x400.
    fn chain() -> (GuestMemory, Parts) {
        let memory = FakeWiring::new().unwrap().memory();
        memory.write_slice(b"abc", GuestAddress(0x100)).unwrap();
        memory.write_slice(b"de", GuestAddress(0x200)).unwrap();
        let descriptors = [
            Descriptor::new(0x100, 3, NEXT, 1),
            Descriptor::new(0x200, 2, NEXT, 2),
            Descriptor::new(0x300, 3, NEXT | WRITE, 3),
            Descriptor::new(0x400, 4, WRITE, 0),
        ];
        let mut parts = Parts::new(memory.clone());
        parts.walk(descriptors.into_iter(), 4).unwrap();
        (memory, parts)
    }

    #[test]
    fn reading_crosses_buffers_and_ends_with_them() {
        let (_, parts) = chain();
        let mut chain = Chain::new(0, &parts, &[]);
        assert_eq!(chain.reader.read_obj::<[u8; 2]>().unwrap(), *b"ab");
        let mut rest = Vec::new();
        chain.reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"cde");
        assert_eq!((chain.reader.available_bytes(), chain.reader.bytes_read()), (0, 5));
        assert!(chain.reader.read_obj::<u8>().is_err());
    }

    #[test]
    fn writing_crosses_buffers_and_is_short_at_the_end() {
        let (memory, parts) = chain();
        let mut chain = Chain::new(0, &parts, &[]);
        assert_eq!(chain.writer.write(b"12345678").unwrap(), 7);
        assert_eq!((chain.writer.available_bytes(), chain.writer.bytes_written()), (0, 7));
        assert!(chain.writer.write_obj(0_u8).is_err());
        assert_eq!(memory.read_obj::<[u8; 4]>(GuestAddress(0x300)).unwrap(), *b"123\0");
        assert_eq!(memory.read_obj::<[u8; 5]>(GuestAddress(0x400)).unwrap(), *b"4567\0");
    }

    #[test]
    fn a_file_is_filled_and_read_in_one_call_across_buffers() {
        let (memory, parts) = chain();
        let mut chain = Chain::new(0, &parts, &[]);
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(chain.reader.write_to(ours.as_fd(), None, 4).unwrap(), 4);
        assert_eq!((chain.reader.bytes_read(), chain.reader.available_bytes()), (4, 1));
        assert_eq!(chain.writer.read_from(theirs.as_fd(), None, 100).unwrap(), 4);
        assert_eq!((chain.writer.bytes_written(), chain.writer.available_bytes()), (4, 3));
        assert_eq!(memory.read_obj::<[u8; 3]>(GuestAddress(0x300)).unwrap(), *b"abc");
        assert_eq!(memory.read_obj::<[u8; 2]>(GuestAddress(0x400)).unwrap(), *b"d\0");
    }

    #[test]
    fn a_refused_transfer_leaves_the_chain_as_it_was() {
        let (_, parts) = chain();
        let mut chain = Chain::new(0, &parts, &[]);
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let error = chain.writer.read_from(theirs.as_fd(), None, 7).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!((chain.writer.bytes_written(), chain.writer.available_bytes()), (0, 7));
        drop(ours);
        assert_eq!(chain.writer.read_from(theirs.as_fd(), None, 7).unwrap(), 0);
    }

    #[test]
    fn places_are_those_of_what_is_left() {
        let (_, parts) = chain();
        let mut chain = Chain::new(0, &parts, &[]);
        let places = |chain: &Chain<'_>| -> Vec<_> {
            chain.writer.places().map(|(addr, len)| (addr.0, len)).collect()
        };
        assert_eq!(places(&chain), [(0x300, 3), (0x400, 4)]);
        chain.writer.write_all(b"12").unwrap();
        assert_eq!(places(&chain), [(0x302, 1), (0x400, 4)]);
        chain.writer.write_all(b"3").unwrap();
        assert_eq!(places(&chain), [(0x400, 4)]);
    }

    #[test]
    fn a_split_keeps_both_halves_apart() {
        let (memory, parts) = chain();
        let mut chain = Chain::new(0, &parts, &[]);
        let mut tail = chain.writer.split_at(6).unwrap();
        assert_eq!(chain.writer.write(b"......!").unwrap(), 6);
        assert_eq!(tail.write(b"!!").unwrap(), 1);
        assert_eq!(memory.read_obj::<[u8; 4]>(GuestAddress(0x400)).unwrap(), *b"...!");
        assert!(chain.reader.split_at(6).is_err());
        let mut rest = chain.reader.split_at(4).unwrap();
        assert_eq!(chain.reader.available_bytes(), 4);
        assert_eq!(rest.read_obj::<[u8; 1]>().unwrap(), *b"e");
    }

    #[test]
    fn what_does_not_fit_goes_to_the_rest_and_can_be_read_back() {
        let (memory, parts) = chain();
        let mut chain = Chain::new(0, &parts, &[]);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"123456789").unwrap();
        let (start, mut rest) = (chain.writer.clone(), [0; 4]);
        assert_eq!(chain.writer.read_from_with(theirs.as_fd(), &mut rest).unwrap(), 9);
        assert_eq!((chain.writer.available_bytes(), &rest), (0, b"89\0\0"));
        assert_eq!(memory.read_obj::<[u8; 4]>(GuestAddress(0x400)).unwrap(), *b"4567");
        let mut back = [0; 7];
        start.read_back(&mut back).unwrap();
        assert_eq!(&back, b"1234567");
        assert!(start.read_back(&mut [0; 8]).is_err());
    }

    #[test]
    fn bytes_take_as_many_chains_as_have_room_for_them() {
        let (_, parts) = chain();
        let merged = [(0, 3), (1, 4), (2, 5)];
        let chain = Chain::new(0, &parts, &merged);
        for (bytes, chains) in [(0, 1), (1, 1), (3, 1), (4, 2), (7, 2), (8, 3), (13, 3)] {
            assert_eq!(chain.chains_for(bytes), chains, "{bytes}");
        }
        assert_eq!(Chain::new(0, &parts, &[]).chains_for(9), 1);
    }
}
