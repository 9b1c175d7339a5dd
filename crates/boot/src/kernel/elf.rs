//! The ELF kernel: headers are checked here, before a byte is copied (System V ABI, chapters 4
//! and 5; AMD64 supplement).

use linux_loader::loader::bootparam::setup_header;

use super::{ElfError, Entry, Kernel, KernelError, Part, Piece, Protocol, SegmentError, fit, note};
use crate::{image::Image, place};

const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_386: u16 = 3;
const MACHINE_X86_64: u16 = 62;
const TYPE_EXEC: u16 = 2;
const TYPE_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// More than any kernel has; a bound on what is read.
const MOST_HEADERS: u16 = 128;
const MOST_NOTES: u64 = 1 << 20;
/// Linux's `COMMAND_LINE_SIZE`, less the NUL. An ELF does not say.
const CMDLINE_MOST: u64 = 2047;
/// The entry of both protocols is reached by a 32-bit jump, or through tables of the first 4 GiB.
const RAM_LIMIT: u64 = 1 << 32;

pub(super) fn examine(
    image: Image<'_>,
    protocol: Protocol,
    ram_end: u64,
) -> Result<Kernel<'_>, KernelError> {
    let elf = Elf::new(&image)?;
    let segments = elf.loads(image.len())?;
    // The highest first: what it needs is what the machine needs.
    let mut end = 0;
    for segment in segments.iter().rev() {
        let part = Part::Segment(segment.index);
        end = fit(part, segment.address, segment.memory, ram_end)?.max(end);
    }
    let entry = elf.entry(&image, protocol)?;
    let inside = |address| segments.iter().any(|segment| segment.contains(address));
    match entry {
        Entry::Pvh(entry) if !inside(entry) => {
            Err(ElfError::Entry { what: "PVH entry", entry })?;
        }
        Entry::Linux64(entry) if !inside(entry) => {
            Err(ElfError::Entry { what: "entry point", entry })?;
        }
        _ => {}
    }
    let piece = |segment: &Segment| Piece {
        offset: segment.offset,
        len: segment.file,
        address: segment.address,
    };
    let pieces = segments.iter().filter(|segment| segment.file > 0).map(piece).collect();
    Ok(Kernel {
        image,
        pieces,
        entry,
        end,
        cmdline_most: CMDLINE_MOST,
        initrd_limit: RAM_LIMIT,
        header: header(),
    })
}

/// Where the kernel would start, by its headers alone.
pub(super) fn entry(image: &Image<'_>, protocol: Protocol) -> Result<Entry, KernelError> {
    Elf::new(image)?.entry(image, protocol)
}

/// The fields of a setup header that a kernel looks at which did not come with one.
fn header() -> setup_header {
    setup_header {
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x20f,
        loadflags: 1,
        kernel_alignment: 0x100_0000,
        ..setup_header::default()
    }
}

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    index: usize,
    kind: u32,
    offset: u64,
    address: u64,
    file: u64,
    memory: u64,
    align: u64,
}

impl Segment {
    fn contains(&self, address: u64) -> bool {
        address >= self.address && address - self.address < self.memory
    }

    /// Checks what can be checked without knowing the other segments or RAM.
    fn check(&self, len: u64) -> Result<(), SegmentError> {
        let &Self { index, offset, address, file, memory, .. } = self;
        if self.kind == PT_LOAD && file > memory {
            return Err(SegmentError::Size { index, file, memory });
        }
        if offset.checked_add(file).is_none_or(|end| end > len) {
            return Err(SegmentError::File { index, offset, size: file, len });
        }
        if self.kind == PT_LOAD && address < place::KERNEL {
            return Err(SegmentError::Low { index, address });
        }
        if self.kind == PT_NOTE && file > MOST_NOTES {
            return Err(SegmentError::Notes { index, size: file, most: MOST_NOTES });
        }
        Ok(())
    }
}

/// An ELF's header and program headers, read once.
#[derive(Debug)]
struct Elf {
    wide: bool,
    entry: u64,
    segments: Vec<Segment>,
}

impl Elf {
    fn new(image: &Image<'_>) -> Result<Self, KernelError> {
        let header = Fields(image.head(64)?);
        let (class, order) = (header.u8(4), header.u8(5));
        if !matches!(class, CLASS_32 | CLASS_64) || order != LITTLE_ENDIAN {
            Err(ElfError::Ident { class, order })?;
        }
        let wide = class == CLASS_64;
        let end = if wide { 64 } else { 52 };
        if image.len() < end {
            Err(ElfError::Truncated { what: "header fields", end, len: image.len() })?;
        }
        let (kind, machine) = (header.u16(16), header.u16(18));
        let expected = if wide { MACHINE_X86_64 } else { MACHINE_386 };
        if machine != expected || !matches!(kind, TYPE_EXEC | TYPE_DYN) {
            Err(ElfError::Machine { machine, kind })?;
        }
        let (entry, table, size_at) = if wide {
            (header.u64(24), header.u64(32), 54)
        } else {
            (header.u32_wide(24), header.u32_wide(28), 42)
        };
        let (size, count) = (header.u16(size_at), header.u16(size_at + 2));
        let segments = program_headers(image, wide, table, size, count)?;
        Ok(Self { wide, entry, segments })
    }

    /// The segments to load, by address, each checked on its own and against the others.
    fn loads(&self, len: u64) -> Result<Vec<Segment>, ElfError> {
        let is_load = |segment: &&Segment| segment.kind == PT_LOAD && segment.memory > 0;
        let mut loads: Vec<Segment> = self.segments.iter().filter(is_load).copied().collect();
        if loads.is_empty() {
            return Err(ElfError::NoSegments);
        }
        for segment in &loads {
            segment.check(len)?;
        }
        loads.sort_by_key(|segment| segment.address);
        for pair in loads.windows(2) {
            if let [first, second] = pair
                && first.contains(second.address)
            {
                let (first, address) = (first.index, second.address);
                Err(SegmentError::Overlap { first, second: second.index, address })?;
            }
        }
        Ok(loads)
    }

    fn entry(&self, image: &Image<'_>, protocol: Protocol) -> Result<Entry, KernelError> {
        let refuse = |why| Err(KernelError::Protocol { asked: protocol, why });
        let pvh = match protocol {
            Protocol::Linux => None,
            Protocol::Auto | Protocol::Pvh => self.pvh_entry(image)?,
        };
        match pvh {
            Some(entry) => Ok(Entry::Pvh(entry)),
            None if protocol == Protocol::Pvh => refuse("the ELF has no PVH note"),
            None if !self.wide => {
                refuse("it is a 32-bit ELF, which can start only by PVH, with a PVH note")
            }
            None => Ok(Entry::Linux64(self.entry)),
        }
    }

    fn pvh_entry(&self, image: &Image<'_>) -> Result<Option<u64>, KernelError> {
        for segment in self.segments.iter().filter(|segment| segment.kind == PT_NOTE) {
            segment.check(image.len()).map_err(ElfError::from)?;
            let mut notes = vec![0; usize::try_from(segment.file).unwrap_or(0)];
            image.read(segment.offset, &mut notes)?;
            let entry = note::pvh_entry(&notes, segment.offset, segment.align)?;
            if entry.is_some() {
                return Ok(entry);
            }
        }
        Ok(None)
    }
}

fn program_headers(
    image: &Image<'_>,
    wide: bool,
    table: u64,
    size: u16,
    count: u16,
) -> Result<Vec<Segment>, KernelError> {
    let expected = if wide { 56 } else { 32 };
    if size != expected || count == 0 || count > MOST_HEADERS {
        Err(ElfError::ProgramHeaders { count, size, most: MOST_HEADERS, expected })?;
    }
    let bytes = usize::from(size) * usize::from(count);
    let end = table.saturating_add(u64::from(size) * u64::from(count));
    if end > image.len() {
        Err(ElfError::Truncated { what: "program headers", end, len: image.len() })?;
    }
    let mut headers = vec![0; bytes];
    image.read(table, &mut headers)?;
    let headers = headers.chunks_exact(usize::from(size)).enumerate();
    Ok(headers.map(|(index, header)| segment(index, wide, header)).collect())
}

fn segment(index: usize, wide: bool, header: &[u8]) -> Segment {
    let header = Fields(header.to_vec());
    let kind = header.u32(0);
    if wide {
        let [offset, address, file, memory, align] = [8, 24, 32, 40, 48].map(|at| header.u64(at));
        Segment { index, kind, offset, address, file, memory, align }
    } else {
        let [offset, address, file, memory, align] =
            [4, 12, 16, 20, 28].map(|at| header.u32_wide(at));
        Segment { index, kind, offset, address, file, memory, align }
    }
}

/// Little-endian fields by offset; 0 beyond the end, which callers have ruled out.
#[derive(Debug)]
struct Fields(Vec<u8>);

impl Fields {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.bytes(at))
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u32_wide(&self, at: usize) -> u64 {
        u64::from(self.u32(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}
