//! The tables of an image that is to be written: that all they lead to is there, counted, and used
//! once.
//!
//! A disk whose data lies where a table is lets the guest write that table. And the library takes a
//! cluster that is in use but not counted for one that it may free and allocate again, which ends in
//! a recursion without end. So an image like that is not opened for writing; reading one is safe.
//!
//! A count that is missing is made up for, because it is what is left when a VMM is killed: the
//! library writes new tables before it writes that their place is taken.

use std::{fs::File, ops::Range, os::unix::fs::FileExt};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

use super::{FormatError, header::Header};

/// Most clusters that an image may have: what the maps below take 128 MiB for.
const CLUSTERS: u64 = 1 << 29;
/// Where an entry of a table leads to, bytes from the start of the image.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The same for the table of reference counts.
const BLOCK: u64 = !0x1ff;
const COMPRESSED: u64 = 1 << 62;

/// Checks the image `file`, whose header is `header` and whose size is `len` bytes, and counts what is
/// used but was not counted: how many clusters.
pub(super) fn check(file: &File, header: &Header, len: u64) -> Result<u64, FormatError> {
    let clusters = len.div_ceil(header.cluster);
    if clusters > CLUSTERS {
        let (what, right) = ("the number of clusters in the file", "at most 0x20000000");
        return Err(FormatError::Field { what, value: clusters, right });
    }
    let [own, shared] = [(); 2].map(|()| Map::new(clusters));
    let table = vec![0; usize::try_from(header.cluster).unwrap_or(0)];
    let mut walk = Walk { file, header, own, shared, table };
    walk.own.mark("the header", 0..1)?;
    walk.tables()?;
    walk.data()?;
    walk.counts()
}

/// One bit for each cluster.
struct Map {
    bits: Vec<u64>,
    clusters: u64,
}

impl Map {
    fn new(clusters: u64) -> Self {
        let words = usize::try_from(clusters.div_ceil(64)).unwrap_or(0);
        Self { bits: vec![0; words], clusters }
    }

    fn bit(cluster: u64) -> (usize, u64) {
        (usize::try_from(cluster / 64).unwrap_or(usize::MAX), 1 << (cluster % 64))
    }

    fn has(&self, cluster: u64) -> bool {
        let (word, bit) = Self::bit(cluster);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, cluster: u64) -> bool {
        let (word, bit) = Self::bit(cluster);
        let Some(word) = self.bits.get_mut(word).filter(|_| cluster < self.clusters) else {
            return false;
        };
        *word |= bit;
        true
    }

    /// Marks clusters that `what` has to itself.
    fn mark(&mut self, what: &'static str, clusters: Range<u64>) -> Result<(), FormatError> {
        for cluster in clusters {
            if self.has(cluster) || !self.set(cluster) {
                return Err(FormatError::Table { what, cluster });
            }
        }
        Ok(())
    }

    /// Whether any of `clusters` may be marked.
    fn any(&self, clusters: Range<u64>) -> bool {
        let words = Self::bit(clusters.start).0..=Self::bit(clusters.end.saturating_sub(1)).0;
        self.bits.get(words).is_some_and(|words| words.iter().any(|word| *word != 0))
    }
}

struct Walk<'a> {
    file: &'a File,
    header: &'a Header,
    /// Clusters that one table or one piece of data has to itself.
    own: Map,
    /// Clusters with compressed data of several.
    shared: Map,
    /// Room for a cluster of a table.
    table: Vec<u8>,
}

impl Walk<'_> {
    /// Marks both tables that the header leads to, and what these lead to.
    fn tables(&mut self) -> Result<(), FormatError> {
        let cluster = self.header.cluster;
        let (l1, counts) = (self.header.l1.clone(), self.header.counts.clone());
        self.own.mark("the first-level table", clusters(&l1, cluster))?;
        self.own.mark("the reference table", clusters(&counts, cluster))?;
        self.table("a second-level table", l1, OFFSET)?;
        self.table("a reference block", counts, BLOCK)
    }

    fn table(
        &mut self,
        what: &'static str,
        table: Range<u64>,
        mask: u64,
    ) -> Result<(), FormatError> {
        let cluster = self.header.cluster;
        let mut at = table.start;
        while at < table.end {
            let step = cluster.min(table.end - at);
            self.load(at, step)?;
            for place in entries(&self.table, step).map(|entry| entry & mask) {
                if place != 0 {
                    mark(&mut self.own, what, place, cluster)?;
                }
            }
            at += step;
        }
        Ok(())
    }

    /// Marks the data that the second-level tables lead to.
    fn data(&mut self) -> Result<(), FormatError> {
        let (cluster, l1) = (self.header.cluster, self.header.l1.clone());
        let mut at = l1.start;
        let mut second = vec![0; self.table.len()];
        while at < l1.end {
            let step = cluster.min(l1.end - at);
            self.load(at, step)?;
            std::mem::swap(&mut second, &mut self.table);
            for place in entries(&second, step).map(|entry| entry & OFFSET) {
                if place != 0 && self.load(place, cluster)? {
                    self.second_level()?;
                }
            }
            at += step;
        }
        let both = |cluster: &u64| self.own.has(*cluster) && self.shared.has(*cluster);
        match (0..self.own.clusters).find(both) {
            Some(cluster) => Err(FormatError::Table { what: "compressed data", cluster }),
            None => Ok(()),
        }
    }

    /// Marks what the second-level table in `table` leads to.
    fn second_level(&mut self) -> Result<(), FormatError> {
        let Self { header, own, shared, table, .. } = self;
        let bits = header.cluster.trailing_zeros();
        for entry in entries(table, header.cluster) {
            let place = entry & OFFSET;
            if entry & COMPRESSED != 0 {
                let what = "compressed data";
                let width = 62 - (bits - 8);
                let start = entry & ((1 << width) - 1);
                let sectors = (entry & (COMPRESSED - 1)) >> width;
                let end = (start & !511) + (sectors + 1) * 512;
                for cluster in start >> bits..end.div_ceil(header.cluster) {
                    if !shared.set(cluster) {
                        return Err(FormatError::Table { what, cluster });
                    }
                }
            } else if place != 0 {
                mark(own, "data", place, header.cluster)?;
            }
        }
        Ok(())
    }

    /// Sees to it that every cluster that was marked is counted: how many were not.
    fn counts(&mut self) -> Result<u64, FormatError> {
        let (cluster, table) = (self.header.cluster, self.header.counts.clone());
        let covered = (cluster * 8) >> self.header.order;
        let (mut first, mut repaired) = (0_u64, 0);
        let mut blocks = vec![0; self.table.len()];
        for at in (table.start..table.end).step_by(self.table.len().max(1)) {
            self.load(at, cluster)?;
            std::mem::swap(&mut blocks, &mut self.table);
            for place in entries(&blocks, cluster).map(|entry| entry & BLOCK) {
                let range = first..self.own.clusters.min(first.saturating_add(covered));
                first = range.end;
                if range.is_empty()
                    || !(self.own.any(range.clone()) || self.shared.any(range.clone()))
                {
                    continue;
                }
                if place == 0 {
                    let what = "what no block counts,";
                    return Err(FormatError::Table { what, cluster: range.start });
                }
                self.load(place, cluster)?;
                let more = self.count(range)?;
                if more > 0 {
                    self.file.write_all_at(&self.table, place).map_err(FormatError::Read)?;
                }
                repaired += more;
            }
        }
        let rest = first..self.own.clusters;
        let marked = |cluster: &u64| self.own.has(*cluster) || self.shared.has(*cluster);
        match rest.into_iter().find(marked) {
            Some(cluster) => Err(FormatError::Table { what: "what no block counts,", cluster }),
            None => Ok(repaired),
        }
    }

    /// Counts those of `clusters` in `table` that are marked and not counted: how many.
    fn count(&mut self, clusters: Range<u64>) -> Result<u64, FormatError> {
        let order = self.header.order;
        let mut missing = 0;
        for (at, cluster) in (0_u64..).zip(clusters) {
            if !self.own.has(cluster) && !self.shared.has(cluster) {
                continue;
            }
            // Counts of less than a byte begin with the lowest bits of it; others have their lowest
            // byte last (QEMU's qcow2.txt).
            let byte = usize::try_from((at << order) >> 3).unwrap_or(usize::MAX);
            let width = 1_usize << order.saturating_sub(3);
            let count = self.table.get_mut(byte..byte.saturating_add(width)).unwrap_or_default();
            let (shift, mask) = match order {
                0 => (at & 7, 0b1),
                1 => ((at & 3) * 2, 0b11),
                2 => ((at & 1) * 4, 0b1111),
                _ => (0, u8::MAX),
            };
            if count.iter().any(|byte| (byte >> shift) & mask != 0) {
                continue;
            }
            // What else uses the cluster is known only if there are no snapshots.
            let last = count.last_mut().filter(|_| self.header.snapshots == 0);
            let Some(last) = last else {
                return Err(FormatError::Table { what: "what is not counted,", cluster });
            };
            *last |= 1 << shift;
            missing += 1;
        }
        Ok(missing)
    }

    /// Fills `table` with `len` bytes of the image from `at` on; false if they are a hole.
    fn load(&mut self, at: u64, len: u64) -> Result<bool, FormatError> {
        let from = i64::try_from(at).unwrap_or(i64::MAX);
        let data = match lseek(self.file, from, Whence::SeekData) {
            Ok(data) => u64::try_from(data).unwrap_or(0) < at.saturating_add(len),
            Err(Errno::ENXIO) => false,
            Err(_) => true, // no holes here
        };
        let len = usize::try_from(len).unwrap_or(0);
        let Some(table) = self.table.get_mut(..len) else { return Ok(false) };
        table.fill(0);
        if data {
            super::header::read_some(self.file, table, at).map_err(FormatError::Read)?;
        }
        Ok(data)
    }
}

fn clusters(bytes: &Range<u64>, cluster: u64) -> Range<u64> {
    bytes.start / cluster..bytes.end.div_ceil(cluster)
}

/// Marks the cluster at `place` as one that `what` has to itself.
fn mark(map: &mut Map, what: &'static str, place: u64, cluster: u64) -> Result<(), FormatError> {
    let number = place / cluster;
    if !place.is_multiple_of(cluster) {
        return Err(FormatError::Table { what, cluster: number });
    }
    map.mark(what, number..number + 1)
}

/// The entries in the first `len` bytes of a table.
fn entries(table: &[u8], len: u64) -> impl Iterator<Item = u64> {
    let table = table.get(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
    table.as_chunks().0.iter().map(|entry| u64::from_be_bytes(*entry))
}
