//! Features and configuration space (virtio 1.3 §5.2.3 and §5.2.4).

use disk::{Disk, SECTOR};

use crate::{
    Cache,
    request::{DISCARD_SEGMENTS, ZEROES_SEGMENTS},
};

/// The configuration says how many segments a request can have.
const SEG_MAX: u64 = 1 << 2;
/// The disk is read-only.
pub(crate) const RO: u64 = 1 << 5;
/// The configuration says how large blocks are.
const BLK_SIZE: u64 = 1 << 6;
/// There is a cache to flush.
pub(crate) const FLUSH: u64 = 1 << 9;
/// The configuration says what the disk likes best.
const TOPOLOGY: u64 = 1 << 10;
/// The driver can turn the cache off and on.
pub(crate) const CONFIG_WCE: u64 = 1 << 11;
/// The configuration says how many queues there are.
const MQ: u64 = 1 << 12;
/// Blocks can be given back.
pub(crate) const DISCARD: u64 = 1 << 13;
/// Blocks can be zeroed without sending zeroes.
pub(crate) const WRITE_ZEROES: u64 = 1 << 14;

/// Entries of each queue.
pub(crate) const QUEUE: u16 = 256;
/// Data buffers of one request: what the queue has room for beside header and status.
const SEGMENTS: u32 = QUEUE as u32 - 2;
/// The most sectors of one segment to discard: 1 GiB, which file systems do at once.
pub(crate) const DISCARD_SECTORS: u32 = 1 << 21;
/// The most sectors of one segment to zero: 32 MiB, because they may have to be written.
pub(crate) const ZEROES_SECTORS: u32 = 1 << 16;

/// Bytes of a block that hosts like best.
const PHYSICAL: u32 = 4096;

/// Where the driver turns the cache off (0) and on (1).
pub(crate) const WRITEBACK: usize = 32;

pub(crate) fn features(disk: &dyn Disk, cache: Cache, queues: u16) -> u64 {
    let several = if queues > 1 { MQ } else { 0 };
    let always = SEG_MAX | BLK_SIZE | TOPOLOGY | several;
    let flush = match cache {
        Cache::WriteBack => FLUSH | CONFIG_WCE,
        // Without a feature to the contrary, a driver takes every write for stable.
        Cache::WriteThrough | Cache::Unsafe => 0,
    };
    always | if disk.is_read_only() { RO } else { flush | DISCARD | WRITE_ZEROES }
}

/// The first field of the configuration space: how many sectors there are.
pub(crate) fn capacity(disk: &dyn Disk) -> [u8; 8] {
    (disk.len() / SECTOR).to_le_bytes()
}

/// The configuration space of a disk that no driver has touched. Fields without a feature are zero.
pub(crate) fn config(disk: &dyn Disk, features: u64, queues: u16) -> Vec<u8> {
    // What goes past the page cache is best in the storage's own blocks.
    let align = disk.file().map_or(1, |file| file.align);
    let block = u32::try_from(align).unwrap_or(1).clamp(512, PHYSICAL);
    let blocks = PHYSICAL / block;
    let exponent = u8::try_from(blocks.trailing_zeros()).unwrap_or(0);
    let writeback = u8::from(features & CONFIG_WCE != 0);
    let (mut discard, mut zeroes) = ([0; 3], [0; 2]);
    if features & DISCARD != 0 {
        // Host file systems give back blocks of 4 KiB.
        discard = [DISCARD_SECTORS, DISCARD_SEGMENTS, 8];
    }
    if features & WRITE_ZEROES != 0 {
        zeroes = [ZEROES_SECTORS, ZEROES_SEGMENTS];
    }
    let may_unmap = u8::from(features & WRITE_ZEROES != 0);

    let mut space = Vec::with_capacity(60);
    space.extend(capacity(disk)); // 0: capacity
    space.extend(0_u32.to_le_bytes()); // 8: size_max
    space.extend(SEGMENTS.to_le_bytes()); // 12: seg_max
    space.extend([0; 4]); // 16: geometry
    space.extend(block.to_le_bytes()); // 20: blk_size
    space.extend([exponent, 0]); // 24: logical blocks in a physical one; the first at its start
    space.extend(u16::try_from(blocks).unwrap_or(1).to_le_bytes()); // 26: min_io_size, blocks
    space.extend(0_u32.to_le_bytes()); // 28: opt_io_size
    space.extend([writeback, 0]); // 32: writeback, unused
    space.extend(queues.to_le_bytes()); // 34: num_queues
    discard.into_iter().chain(zeroes).for_each(|value| space.extend(value.to_le_bytes())); // 36
    space.extend([may_unmap, 0, 0, 0]); // 56: write_zeroes_may_unmap, unused
    space
}

#[cfg(test)]
mod tests {
    use disk::Memory;

    use super::*;

    #[test]
    fn the_fields_are_where_the_standard_has_them() {
        let disk = Memory::new(7).unwrap();
        let space = config(&disk, features(&disk, Cache::WriteBack, 1), 1);
        let word = |at: usize| u32::from_le_bytes(space[at..at + 4].try_into().unwrap());
        assert_eq!(space.len(), 60);
        assert_eq!((word(0), word(4)), (7, 0), "capacity");
        assert_eq!((word(12), word(20)), (254, 512), "seg_max, blk_size");
        assert_eq!(space[24..34], [3, 0, 8, 0, 0, 0, 0, 0, 1, 0], "topology, writeback");
        assert_eq!((word(36), word(40), word(44)), (1 << 21, 16, 8), "discard");
        assert_eq!((word(48), word(52), space[56]), (1 << 16, 1, 1), "write zeroes");
    }

    #[test]
    fn what_is_not_offered_is_zero() {
        let disk = Memory::new(7).unwrap();
        let space = config(&disk, 0, 1);
        assert_eq!(space[WRITEBACK], 0);
        assert_eq!(space[36..60], [0; 24]);
    }

    #[test]
    fn only_a_cache_that_matters_can_be_flushed() {
        let disk = Memory::new(7).unwrap();
        for cache in [Cache::WriteThrough, Cache::Unsafe] {
            assert_eq!(features(&disk, cache, 1) & (FLUSH | CONFIG_WCE), 0);
        }
        let both = FLUSH | CONFIG_WCE;
        assert_eq!(features(&disk, Cache::WriteBack, 1) & both, both);
    }

    #[test]
    fn several_queues_are_offered_and_counted() {
        let disk = Memory::new(7).unwrap();
        let offered = features(&disk, Cache::WriteBack, 4);
        assert_eq!(offered & MQ, MQ);
        assert_eq!(features(&disk, Cache::WriteBack, 1) & MQ, 0);
        assert_eq!(config(&disk, offered, 4)[34..36], [4, 0]);
    }
}
