//! Requests, copied out of guest memory once and checked (virtio 1.3 §5.2.6).

use std::io;

use disk::SECTOR;
use virtio::{Reader, Writer};

use crate::{
    Identity,
    space::{DISCARD_SECTORS, ZEROES_SECTORS},
};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Of a segment to zero: its blocks may be given back.
const UNMAP: u32 = 1 << 0;

/// The most segments that a request to discard has.
pub(crate) const DISCARD_SEGMENTS: u32 = 16;
/// The most segments that a request to write zeroes has.
pub(crate) const ZEROES_SEGMENTS: u32 = 1;
const SEGMENTS: usize = 16;
/// Bytes of a segment in guest memory.
const SEGMENT: usize = 16;

/// The most bytes that are read or written at once. Its buffers may overlap, so that RAM is no bound;
/// Linux stays below 4 MiB.
const LARGEST: u64 = 32 << 20;

/// What a guest asks for. Every range lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Fill what is left of the writer.
    Read(Extent),
    /// Write what is left of the reader.
    Write(Extent),
    /// Make what was written last.
    Flush,
    /// Say which disk this is.
    Identify,
    /// Give up the content of these.
    Discard(Segments),
    /// Make these read as zeroes.
    WriteZeroes(Segments),
}

/// A range of the disk, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Up to 16 extents, each with whether it may be unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    list: [(Extent, bool); SEGMENTS],
    count: usize,
}

impl Segments {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Extent, bool)> {
        self.list.iter().take(self.count).copied()
    }
}

/// Why a request is not served.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The guest asks for something that there is not.
    Unsupported,
    /// The guest asks for something that makes no sense.
    Malformed,
    /// The host fails.
    Host(io::Error),
}

/// What the disk can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Size of the disk, bytes.
    pub(crate) len: u64,
    pub(crate) read_only: bool,
    pub(crate) discard: bool,
    pub(crate) write_zeroes: bool,
}

impl Limits {
    /// Reads and checks a request; `reader` and `writer` are then at its data.
    pub(crate) fn decode(
        &self,
        reader: &mut Reader<'_>,
        writer: &Writer<'_>,
    ) -> Result<Request, Refusal> {
        let [a, b, c, d, _, _, _, _, sector @ ..] =
            reader.read_obj::<[u8; 16]>().map_err(|_| Refusal::Malformed)?;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([a, b, c, d]) {
            IN => self.extent(sector, writer.available_bytes()).map(Request::Read),
            OUT if self.read_only => Err(Refusal::Malformed),
            OUT => self.extent(sector, reader.available_bytes()).map(Request::Write),
            FLUSH => Ok(Request::Flush),
            GET_ID if writer.available_bytes() < Identity::LEN => Err(Refusal::Malformed),
            GET_ID => Ok(Request::Identify),
            DISCARD if self.discard => self.discard(reader).map(Request::Discard),
            WRITE_ZEROES if self.write_zeroes => self.zeroes(reader).map(Request::WriteZeroes),
            _ => Err(Refusal::Unsupported),
        }
    }

    fn extent(&self, sector: u64, len: usize) -> Result<Extent, Refusal> {
        let offset = sector.checked_mul(SECTOR).ok_or(Refusal::Malformed)?;
        let len = u64::try_from(len).map_err(|_| Refusal::Malformed)?;
        let end = offset.checked_add(len).ok_or(Refusal::Malformed)?;
        if !len.is_multiple_of(SECTOR) || end > self.len || len > LARGEST {
            return Err(Refusal::Malformed);
        }
        Ok(Extent { offset, len })
    }

    fn discard(&self, reader: &mut Reader<'_>) -> Result<Segments, Refusal> {
        self.segments(reader, DISCARD_SEGMENTS, DISCARD_SECTORS, 0)
    }

    fn zeroes(&self, reader: &mut Reader<'_>) -> Result<Segments, Refusal> {
        self.segments(reader, ZEROES_SEGMENTS, ZEROES_SECTORS, UNMAP)
    }

    /// Reads all segments before any is acted upon. `flags` are those that a segment may have.
    fn segments(
        &self,
        reader: &mut Reader<'_>,
        most: u32,
        sectors: u32,
        flags: u32,
    ) -> Result<Segments, Refusal> {
        let (bytes, most) = (reader.available_bytes(), usize::try_from(most).unwrap_or(0));
        let count = bytes / SEGMENT;
        if !bytes.is_multiple_of(SEGMENT) || count == 0 || count > most {
            return Err(Refusal::Malformed);
        }
        let mut segments = Segments { list: Default::default(), count };
        for segment in segments.list.iter_mut().take(count) {
            *segment = self.segment(reader, sectors, flags)?;
        }
        Ok(segments)
    }

    fn segment(
        &self,
        reader: &mut Reader<'_>,
        most: u32,
        known: u32,
    ) -> Result<(Extent, bool), Refusal> {
        let sector = reader.read_obj::<[u8; 8]>().map(u64::from_le_bytes);
        let sectors = reader.read_obj::<[u8; 4]>().map(u32::from_le_bytes);
        let flags = reader.read_obj::<[u8; 4]>().map(u32::from_le_bytes);
        let (Ok(sector), Ok(sectors), Ok(flags)) = (sector, sectors, flags) else {
            return Err(Refusal::Malformed);
        };
        if flags & !known != 0 {
            return Err(Refusal::Unsupported);
        }
        if sectors > most {
            return Err(Refusal::Malformed);
        }
        let len = u64::from(sectors).saturating_mul(SECTOR);
        let extent = self.extent(sector, usize::try_from(len).unwrap_or(usize::MAX))?;
        Ok((extent, flags & UNMAP != 0))
    }
}
