//! The buffers of one request, as a device sees them.

use std::{
    fmt,
    io::{self, Read, Write},
    ops::Range,
    os::fd::BorrowedFd,
};

use memory::{GuestAddress, GuestMemory, Scatter, access};
use vm_memory::ByteValued;

use crate::walk::{Part, Parts};

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
    /// How many chains of the queue this is made of: 1, or more after
    /// [`Served::Merge`](crate::Served::Merge).
    pub count: u16,
}

impl<'a> Chain<'a> {
    pub(crate) fn new(head: u16, memory: &'a GuestMemory, parts: &'a Parts) -> Self {
        let reader = Reader { cursor: Cursor::new(memory, parts.readable()) };
        let writer = Writer { cursor: Cursor::new(memory, parts.writable()) };
        Self { head, reader, writer, count: 1 }
    }

    /// All of guest RAM, for requests that name addresses in it.
    pub fn memory(&self) -> &'a GuestMemory {
        self.reader.cursor.memory
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
#[derive(Debug)]
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
        self.cursor.transfer(count, |scatter| scatter.write_to(fd, offset))
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
        let memory = self.cursor.memory;
        self.cursor.each(buf.len(), |addr, at| match buf.get_mut(at) {
            Some(buf) => access::read(memory, addr, buf).map_err(io::Error::other),
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
        let offset = u32::try_from(self.cursor.offset).unwrap_or(u32::MAX);
        self.cursor.parts.iter().enumerate().map(move |(index, part)| match index {
            0 => (GuestAddress(part.addr.0.wrapping_add(offset.into())), part.len - offset),
            _ => (part.addr, part.len),
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
        self.cursor.transfer(count, |scatter| scatter.read_from(fd, offset))
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
        let memory = self.cursor.memory;
        self.cursor.each(buf.len(), |addr, at| match buf.get(at) {
            Some(buf) => access::write(memory, addr, buf).map_err(io::Error::other),
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
    memory: &'a GuestMemory,
    parts: &'a [Part],
    /// How much of the first part is behind the cursor, bytes.
    offset: usize,
    available: usize,
    consumed: usize,
}

impl<'a> Cursor<'a> {
    fn new(memory: &'a GuestMemory, parts: &'a [Part]) -> Self {
        let available = parts.iter().map(|part| size(part.len)).fold(0, usize::saturating_add);
        Self { memory, parts, offset: 0, available, consumed: 0 }
    }

    /// Calls `copy` for each contiguous piece of the next `count` bytes, or of as many as there
    /// are: its address, and its place in the whole.
    fn each(
        &mut self,
        count: usize,
        mut copy: impl FnMut(GuestAddress, Range<usize>) -> io::Result<()>,
    ) -> io::Result<usize> {
        let count = count.min(self.available);
        let mut done = 0;
        while done < count {
            let Some((part, rest)) = self.parts.split_first() else { break };
            let left = size(part.len).saturating_sub(self.offset);
            let step = left.min(count - done);
            let addr = part.addr.0.wrapping_add(u64::try_from(self.offset).unwrap_or(0));
            copy(GuestAddress(addr), done..done + step)?;
            done += step;
            self.available -= step;
            self.consumed += step;
            if step == left {
                self.parts = rest;
                self.offset = 0;
            } else {
                self.offset += step;
            }
        }
        Ok(done)
    }

    fn gather(&mut self, count: usize, scatter: &mut Scatter) -> io::Result<usize> {
        self.each(count, |addr, at| scatter.push(addr, at.len()).map_err(io::Error::other))
    }

    /// One system call about the next `count` bytes; the cursor goes on by what it did.
    fn transfer(
        &mut self,
        count: usize,
        call: impl FnOnce(&Scatter) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut scatter = Scatter::new(self.memory.clone());
        self.clone().gather(count, &mut scatter)?;
        let done = call(&scatter)?;
        self.each(done, |_, _| Ok(()))
    }

    fn split_at(&mut self, offset: usize) -> io::Result<Self> {
        if offset > self.available {
            let why = format!("cannot split {} bytes at {offset}", self.available);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut rest = self.clone();
        rest.each(offset, |_, _| Ok(()))?;
        rest.consumed = 0;
        self.available = offset;
        Ok(rest)
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("parts", &self.parts)
            .field("available", &self.available)
            .field("consumed", &self.consumed)
            .finish_non_exhaustive()
    }
}

fn size(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::net::UnixStream};

    use device::{FakeWiring, Wiring};
    use memory::Bytes;
    use virtio_queue::desc::split::Descriptor;

    use super::*;

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
        let mut parts = Parts::default();
        parts.walk(descriptors.into_iter(), &memory, 4).unwrap();
        (memory, parts)
    }

    #[test]
    fn reading_crosses_buffers_and_ends_with_them() {
        let (memory, parts) = chain();
        let mut chain = Chain::new(0, &memory, &parts);
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
        let mut chain = Chain::new(0, &memory, &parts);
        assert_eq!(chain.writer.write(b"12345678").unwrap(), 7);
        assert_eq!((chain.writer.available_bytes(), chain.writer.bytes_written()), (0, 7));
        assert!(chain.writer.write_obj(0_u8).is_err());
        assert_eq!(memory.read_obj::<[u8; 4]>(GuestAddress(0x300)).unwrap(), *b"123\0");
        assert_eq!(memory.read_obj::<[u8; 5]>(GuestAddress(0x400)).unwrap(), *b"4567\0");
    }

    #[test]
    fn a_file_is_filled_and_read_in_one_call_across_buffers() {
        let (memory, parts) = chain();
        let mut chain = Chain::new(0, &memory, &parts);
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
        let (memory, parts) = chain();
        let mut chain = Chain::new(0, &memory, &parts);
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
        let (memory, parts) = chain();
        let mut chain = Chain::new(0, &memory, &parts);
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
        let mut chain = Chain::new(0, &memory, &parts);
        let mut tail = chain.writer.split_at(6).unwrap();
        assert_eq!(chain.writer.write(b"......!").unwrap(), 6);
        assert_eq!(tail.write(b"!!").unwrap(), 1);
        assert_eq!(memory.read_obj::<[u8; 4]>(GuestAddress(0x400)).unwrap(), *b"...!");
        assert!(chain.reader.split_at(6).is_err());
        let mut rest = chain.reader.split_at(4).unwrap();
        assert_eq!(chain.reader.available_bytes(), 4);
        assert_eq!(rest.read_obj::<[u8; 1]>().unwrap(), *b"e");
    }
}
