//! The header of a qcow2 image, checked before anything acts on it.
//!
//! The library that does the rest believes some of what it finds here; nothing gets to it that this
//! has not looked at. The layout is that of QEMU's `docs/interop/qcow2.txt`.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use super::FormatError;
use crate::{SECTOR, file};

/// The first four bytes of an image: `QFI` and 0xfb.
pub(crate) const MAGIC: u32 = 0x5146_49fb;
/// Bytes of the header of version 2, and the fixed part of that of version 3.
const V2: u64 = 72;
const V3: u64 = 104;
/// Most entries of the first-level table, 32 MiB: QEMU's limit.
const L1_ENTRIES: u64 = 4 << 20;
/// Largest table of reference counts: QEMU's limit.
const REFCOUNTS: u64 = 8 << 20;
/// Longest name of a backing image.
const NAME: u64 = 1023;

/// Types of header extensions.
const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const FEATURE_NAMES: u32 = 0x6803_f857;
/// Bytes of an entry in the table of feature names.
const FEATURE_NAME: u64 = 48;

/// What the header of a usable image says.
#[derive(Debug)]
pub(super) struct Header {
    /// Size of the disk, bytes.
    pub(super) len: u64,
    /// Bytes in a cluster.
    pub(super) cluster: u64,
    /// Where the first-level table is.
    pub(super) l1: Range<u64>,
    /// Where the table of reference counts is.
    pub(super) counts: Range<u64>,
    /// The exponent of the width of reference counts, bits.
    pub(super) order: u32,
    /// How many snapshots are in the image.
    pub(super) snapshots: u32,
    /// The name of the backing image and its format, if there is one.
    pub(super) backing: Option<(String, Option<String>)>,
}

/// The bytes that are looked at, and where they come from.
struct Fields<'a> {
    file: &'a File,
    bytes: [u8; 104],
}

impl Fields<'_> {
    fn u32(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.copied().map_or(0, u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        let bytes = self.bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.copied().map_or(0, u64::from_be_bytes)
    }

    fn read<const N: usize>(&self, at: u64) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, at).map_err(FormatError::Read)?;
        Ok(bytes)
    }

    /// `len` bytes of text; the caller has bounded `len`.
    fn text(&self, what: &'static str, at: u64, len: u64) -> Result<String, FormatError> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, at).map_err(FormatError::Read)?;
        String::from_utf8(bytes).map_err(|_| wrong(what, at, "UTF-8"))
    }
}

fn wrong(what: &'static str, value: u64, right: &'static str) -> FormatError {
    FormatError::Field { what, value, right }
}

/// Reads and checks the header of `image`.
pub(super) fn read(image: &File) -> Result<Header, FormatError> {
    let mut fields = Fields { file: image, bytes: [0; 104] };
    let size = file::len(image).map_err(FormatError::Read)?;
    let read = read_some(image, &mut fields.bytes, 0).map_err(FormatError::Read)?;
    if fields.u32(0) != MAGIC {
        return Err(FormatError::Magic);
    }
    let version = fields.u32(4);
    let least = match version {
        2 => V2,
        3 => V3,
        _ => return Err(FormatError::Version(version)),
    };
    if read < least {
        return Err(wrong("its size", size, "at least that of the header"));
    }
    if fields.u32(32) != 0 {
        return Err(FormatError::Encrypted);
    }
    let bits = fields.u32(20);
    if !(9..=21).contains(&bits) {
        return Err(wrong("the exponent of the cluster size", bits.into(), "9 to 21"));
    }
    let cluster = 1 << bits;
    let format = if version == 3 { check_v3(&fields, cluster)? } else { None };
    let (l1, counts) = check_tables(&fields, cluster, size)?;
    let name = backing(&fields, cluster)?;
    let order = if version == 3 { fields.u32(96) } else { 4 };
    let backing = name.map(|name| (name, format));
    let (len, snapshots) = (fields.u64(24), fields.u32(60));
    Ok(Header { len, cluster, l1, counts, order, snapshots, backing })
}

/// As much of `bytes` as the file has from `at` on: how much.
pub(super) fn read_some(file: &File, bytes: &mut [u8], at: u64) -> io::Result<u64> {
    let mut done = 0;
    while let Some(rest @ [_, ..]) = bytes.get_mut(done..) {
        match file.read_at(rest, at.saturating_add(u64::try_from(done).unwrap_or(u64::MAX))) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(u64::try_from(done).unwrap_or(u64::MAX))
}

/// What version 3 adds: features, the width of reference counts, extensions. The backing format.
fn check_v3(fields: &Fields<'_>, cluster: u64) -> Result<Option<String>, FormatError> {
    check_features(fields.u64(72))?;
    let order = fields.u32(96);
    if order > 6 {
        return Err(wrong("the exponent of the reference count width", order.into(), "0 to 6"));
    }
    let len = u64::from(fields.u32(100));
    if !(V3..=cluster).contains(&len) || !len.is_multiple_of(8) {
        let right = "a multiple of 8 from 104 to the cluster size";
        return Err(wrong("the header length", len, right));
    }
    extensions(fields, len, cluster)
}

fn check_features(bits: u64) -> Result<(), FormatError> {
    let what = match bits.trailing_zeros() {
        64 => return Ok(()),
        0 => return Err(FormatError::Damaged("not closed properly")),
        1 => return Err(FormatError::Damaged("corrupt")),
        2 => "an external data file",
        3 => "a compression other than deflate",
        4 => "extended second-level entries",
        _ => "something unknown",
    };
    Err(FormatError::Feature { what, bit: bits.trailing_zeros() })
}

/// Walks the header extensions, all of which lie in the first cluster.
fn extensions(
    fields: &Fields<'_>,
    mut at: u64,
    cluster: u64,
) -> Result<Option<String>, FormatError> {
    let mut format = None;
    while at.saturating_add(8) <= cluster {
        let [a, b, c, d, length @ ..] = fields.read::<8>(at)?;
        let kind = u32::from_be_bytes([a, b, c, d]);
        let length = u64::from(u32::from_be_bytes(length));
        at = at.saturating_add(8);
        if at.saturating_add(length) > cluster {
            break;
        }
        match kind {
            END => return Ok(format),
            BACKING_FORMAT if length > NAME || format.is_some() => {
                return Err(wrong("the backing format's length", length, "said once, and short"));
            }
            BACKING_FORMAT => format = Some(fields.text("the backing format", at, length)?),
            FEATURE_NAMES if !length.is_multiple_of(FEATURE_NAME) => {
                let right = "a multiple of 48";
                return Err(wrong("the length of the feature names", length, right));
            }
            _ => {}
        }
        at = at.saturating_add(length.next_multiple_of(8));
    }
    Err(wrong("the end of the header extensions", at, "in the first cluster"))
}

/// Checks the size of the disk, and that both tables are sane and in the image, apart from each
/// other: where they are.
fn check_tables(
    fields: &Fields<'_>,
    cluster: u64,
    size: u64,
) -> Result<(Range<u64>, Range<u64>), FormatError> {
    let len = fields.u64(24);
    if len == 0 || !len.is_multiple_of(SECTOR) {
        return Err(wrong("the disk's size", len, "a positive multiple of 512"));
    }
    let entries = u64::from(fields.u32(36));
    // One entry of the first-level table stands for a cluster of entries of 8 bytes, each of which
    // stands for a cluster.
    let needed = len.div_ceil(cluster * (cluster / 8));
    if entries < needed || entries > L1_ENTRIES {
        let right = "enough for the disk's size and at most 0x400000";
        return Err(wrong("the number of first-level entries", entries, right));
    }
    let clusters = u64::from(fields.u32(56));
    if clusters == 0 || clusters > REFCOUNTS / cluster {
        let right = "1 or more, for 8 MiB at most";
        return Err(wrong("the number of reference table clusters", clusters, right));
    }
    let l1 = table("the first-level table", fields.u64(40), entries * 8, (cluster, size))?;
    let counts = "the reference table";
    let counts = table(counts, fields.u64(48), clusters * cluster, (cluster, size))?;
    if l1.start < counts.end && counts.start < l1.end {
        let right = "apart from the reference table";
        return Err(wrong("the first-level table's place", l1.start, right));
    }
    Ok((l1, counts))
}

fn table(
    what: &'static str,
    at: u64,
    len: u64,
    (cluster, size): (u64, u64),
) -> Result<Range<u64>, FormatError> {
    let end = at.checked_add(len).filter(|end| *end <= size);
    match end {
        Some(end) if at >= cluster && at.is_multiple_of(cluster) => Ok(at..end),
        _ => Err(wrong(what, at, "at a cluster of its own, and end in the image")),
    }
}

fn backing(fields: &Fields<'_>, cluster: u64) -> Result<Option<String>, FormatError> {
    let (at, len) = (fields.u64(8), u64::from(fields.u32(16)));
    if at == 0 {
        return Ok(None);
    }
    if len == 0 || len > NAME {
        return Err(wrong("the length of the backing image's name", len, "1 to 0x3ff"));
    }
    if at.checked_add(len).is_none_or(|end| end >= cluster) {
        return Err(wrong("the place of the backing image's name", at, "in the first cluster"));
    }
    fields.text("the backing image's name", at, len).map(Some)
}
