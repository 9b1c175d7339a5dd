//! Data between guest RAM and disk.

use std::{io, os::fd::BorrowedFd};

use disk::Disk;
use memory::Scatter;
use virtio::{Chain, Reader, Writer};

use crate::request::Extent;

/// Data that cannot go straight to a file goes in pieces of this many bytes.
const PIECE: usize = 64 << 10;

/// What transfers keep between them, so that they allocate nothing.
#[derive(Default)]
pub(crate) struct Transfer {
    /// Where the data of one request is; made with the first one.
    scatter: Option<Scatter>,
    /// For what cannot go straight to a file; made when it is first needed.
    piece: Box<[u8]>,
}

impl Transfer {
    /// Fills the room of `chain` from `extent`: how many bytes were written, and why not all.
    pub(crate) fn read(
        &mut self,
        disk: &mut dyn Disk,
        extent: Extent,
        chain: &mut Chain<'_>,
    ) -> (usize, io::Result<()>) {
        if let Some(file) = disk.file()
            && self.is_aligned(file.align, extent, chain)
        {
            let scatter = self.scatter.get_or_insert_with(|| Scatter::new(chain.memory().clone()));
            scatter.clear();
            return match chain.writer.gather(size(extent.len), scatter) {
                Ok(_) => straight(file.fd, extent.offset, scatter, Scatter::read_from),
                Err(error) => (0, Err(error)),
            };
        }
        let writer: &mut Writer<'_> = &mut chain.writer;
        let before = writer.bytes_written();
        let result = pieces(extent, self.piece(), |offset, data| {
            disk.read_at(offset, data)?;
            io::Write::write_all(writer, data)
        });
        (writer.bytes_written().saturating_sub(before), result)
    }

    /// Writes the data of `chain` to `extent`.
    pub(crate) fn write(
        &mut self,
        disk: &mut dyn Disk,
        extent: Extent,
        chain: &mut Chain<'_>,
    ) -> io::Result<()> {
        if let Some(file) = disk.file()
            && self.is_aligned(file.align, extent, chain)
        {
            let scatter = self.scatter.get_or_insert_with(|| Scatter::new(chain.memory().clone()));
            scatter.clear();
            chain.reader.gather(size(extent.len), scatter)?;
            return straight(file.fd, extent.offset, scatter, Scatter::write_to).1;
        }
        let reader: &mut Reader<'_> = &mut chain.reader;
        pieces(extent, self.piece(), |offset, data| {
            io::Read::read_exact(reader, data)?;
            disk.write_at(offset, data)
        })
    }

    /// Whether `extent` and its data in `chain`, whichever way it goes, are multiples of `align`.
    pub(crate) fn is_aligned(&mut self, align: usize, extent: Extent, chain: &Chain<'_>) -> bool {
        if align <= 1 {
            return true;
        }
        let is_multiple = |value: usize| value.is_multiple_of(align);
        // Regions of RAM begin at pages of the host and of the guest.
        let mut left = chain.writer.available_bytes();
        let room = chain.writer.places().all(|(addr, len)| {
            let len = size(len.into()).min(left);
            left -= len;
            len == 0 || is_multiple(size(addr.0)) && is_multiple(len)
        });
        if !room || !is_multiple(size(extent.offset)) || chain.reader.available_bytes() == 0 {
            return room && is_multiple(size(extent.offset));
        }
        let scatter = self.scatter.get_or_insert_with(|| Scatter::new(chain.memory().clone()));
        scatter.clear();
        let gathered = chain.reader.clone().gather(size(extent.len), scatter);
        let is_aligned =
            |piece: &libc::iovec| is_multiple(piece.iov_base.addr()) && is_multiple(piece.iov_len);
        gathered.is_ok() && scatter.pieces().iter().all(is_aligned)
    }

    fn piece(&mut self) -> &mut [u8] {
        if self.piece.is_empty() {
            self.piece = vec![0; PIECE].into_boxed_slice();
        }
        &mut self.piece
    }
}

/// Has the kernel copy between `file` and the places of `scatter`: how many bytes, and why not all.
fn straight(
    file: BorrowedFd<'_>,
    mut offset: u64,
    scatter: &mut Scatter,
    call: impl Fn(&Scatter, BorrowedFd<'_>, Option<u64>) -> io::Result<usize>,
) -> (usize, io::Result<()>) {
    let mut done = 0_usize;
    while scatter.bytes() > 0 {
        match call(scatter, file, Some(offset)) {
            // Reading ends at the end of the file, before that of the disk: it was cut short.
            Ok(0) => return (done, Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                scatter.skip(count);
                done = done.saturating_add(count);
                offset = offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Calls `copy` with each piece of `extent`: where it is, and a buffer of its size.
fn pieces(
    extent: Extent,
    buffer: &mut [u8],
    mut copy: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let (mut offset, end) = (extent.offset, extent.offset.saturating_add(extent.len));
    while offset < end {
        let step = size(end - offset).min(buffer.len());
        let Some(piece) = buffer.get_mut(..step) else { break };
        copy(offset, piece)?;
        offset = offset.saturating_add(u64::try_from(step).unwrap_or(u64::MAX));
    }
    Ok(())
}

fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
