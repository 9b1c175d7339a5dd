//! What a block device with an io_uring engine makes of a file, beside a bare io_uring loop: the same
//! file, the same reads, the same number of them under way, in turns. No KVM is needed: the driver is
//! part of this program, on a real ring in RAM.

use std::{fs::File, os::unix::fs::FileExt, path::Path, time::Instant};

use disk::{Access, Raw};
use floor::{Reads, allocations};
use virtio_blk::{Blk, BlkConfig, Engine};

use super::{FLOOR, PURLIN, PURLIN_TO_FLOOR, pinned::pinned, ring::Reader};
use crate::{error::Result, options::Options, report::Case, rounds::interleave, scratch::Scratch};

/// Bytes of the file.
const LEN: u64 = 256 << 20;
/// At least 0.9 of the operations in a second, and 0.95 of the bytes.
const OPERATIONS: f64 = 1.0 / 0.9;
const BYTES: f64 = 1.0 / 0.95;

/// Reads of one kind.
struct Kind {
    name: &'static str,
    len: usize,
    depth: u16,
    /// Reads of one sample.
    batch: usize,
    limit: f64,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "4 KiB random reads, 32 at a time",
        len: 4096,
        depth: 32,
        batch: 2048,
        limit: OPERATIONS,
    },
    Kind { name: "1 MiB reads, 8 at a time", len: 1 << 20, depth: 8, batch: 64, limit: BYTES },
];

pub(super) fn run(options: &Options) -> Result<Vec<Case>> {
    let scratch = Scratch::new("blk")?;
    let path = scratch.path().join("image");
    fill(&path)?;
    let samples = options.samples();
    pinned(|| KINDS.iter().map(|kind| against_floor(kind, &path, samples)).collect())
}

fn fill(path: &Path) -> Result<()> {
    let file = File::create(path)?;
    let block: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    for at in (0..LEN).step_by(block.len()) {
        file.write_all_at(&block, at)?;
    }
    Ok(file.sync_all()?)
}

/// Offsets that look random, the same for all (xorshift).
struct Offsets {
    state: u64,
    len: u64,
}

impl Offsets {
    fn new(len: usize) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, len: len as u64 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % (LEN / self.len) * self.len
    }
}

/// Past the page cache: what the storage has to say, not the host's memory.
fn against_floor(kind: &Kind, path: &Path, samples: usize) -> Result<Case> {
    let raw = Raw::open(path, Access::ReadOnly)?.direct()?;
    let file = Raw::open(path, Access::ReadOnly)?.direct()?;
    let blk = Blk::new(raw, BlkConfig::default()).engine(Engine::IoUring)?;
    let mut ours = Reader::new(blk, kind.depth, kind.len)?;
    let file = File::from(std::os::fd::AsFd::as_fd(&file).try_clone_to_owned()?);
    let mut floor = Reads::new(&file, ours.data(kind.len)?)?;
    let mut offsets = [(); 2].map(|()| Offsets::new(kind.len));
    let mut allocated = 0;
    let samples = interleave(samples, 2, &mut |subject| {
        let offsets = offsets.get_mut(subject).ok_or("not two subjects")?;
        let begin = Instant::now();
        if subject == 0 {
            let before = allocations();
            ours.run(kind.batch, || offsets.next())?;
            allocated = allocations() - before;
        } else {
            floor.run(kind.batch, || offsets.next())?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e6 / kind.batch as f64)
    })?;
    let [purlin, floor] = samples.as_slice() else { return Err("not two subjects".into()) };
    let case = Case::new(kind.name, "us a read").row(PURLIN, purlin).row(FLOOR, floor);
    let case = case.ratio(PURLIN_TO_FLOOR, purlin, floor, kind.limit);
    Ok(case.at_most("allocations a read", allocated as f64 / kind.batch as f64, 0.0))
}
