//! The device.

use std::{
    fmt,
    io::{Read, Write},
    path::Path,
};

use device::{Persist, RestoreError, SaveError, Versioned};
use disk::{Access, Disk, OpenError, Raw, SECTOR};
use virtio::{Chain, Device, Reader, Served, Writer};

use crate::{
    BlkConfig, BlkState, Cache,
    request::{Extent, Limits, Refusal, Request},
    space::{self, CONFIG_WCE, DISCARD, FLUSH, QUEUE, WRITE_ZEROES, WRITEBACK},
};

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// Data goes between guest and disk in pieces of this many bytes.
const PIECE: usize = 64 << 10;

/// The block device: serves a guest's requests from a [`Disk`], one after the other.
pub struct Blk {
    disk: Box<dyn Disk>,
    settings: BlkConfig,
    offered: u64,
    accepted: u64,
    space: Vec<u8>,
    piece: Box<[u8]>,
    failures: u64,
}

impl Blk {
    /// A device with `disk` behind it. What the disk is (its size, whether it can be written) is
    /// looked at now; it must not change.
    pub fn new(disk: impl Disk + 'static, config: BlkConfig) -> Self {
        let offered = space::features(&disk, config.cache);
        let space = space::config(&disk, offered);
        Self {
            disk: Box::new(disk),
            settings: config,
            offered,
            accepted: 0,
            space,
            piece: vec![0; PIECE].into_boxed_slice(),
            failures: 0,
        }
    }

    /// A device with the raw image or block device at `path` behind it, for reading and writing,
    /// with the default configuration.
    ///
    /// # Errors
    /// Those of [`Raw::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self::new(Raw::open(path, Access::ReadWrite)?, BlkConfig::default()))
    }

    /// How many requests have failed because the host could not do what they asked for.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    fn limits(&self) -> Limits {
        Limits {
            len: self.disk.len(),
            read_only: self.disk.is_read_only(),
            discard: self.accepted & DISCARD != 0,
            write_zeroes: self.accepted & WRITE_ZEROES != 0,
        }
    }

    fn writeback(&self) -> bool {
        self.space.get(WRITEBACK).is_some_and(|value| *value != 0)
    }

    fn set_writeback(&mut self, on: bool) {
        if let Some(value) = self.space.get_mut(WRITEBACK) {
            *value = u8::from(on);
        }
    }

    /// Whether a write must last before the guest hears of it.
    fn is_write_through(&self) -> bool {
        let accepted = |feature| self.accepted & feature != 0;
        match self.settings.cache {
            Cache::WriteBack => !accepted(FLUSH) || accepted(CONFIG_WCE) && !self.writeback(),
            Cache::WriteThrough => true,
            Cache::Unsafe => false,
        }
    }

    fn request(&mut self, chain: &mut Chain<'_>) -> Result<(), Refusal> {
        let request = self.limits().decode(&mut chain.reader, &chain.writer)?;
        match request {
            Request::Read(extent) => self.read(extent, &mut chain.writer),
            Request::Write(extent) => {
                self.write(extent, &mut chain.reader)?;
                self.written()
            }
            Request::Flush if self.settings.cache == Cache::Unsafe => Ok(()),
            Request::Flush => self.disk.flush().map_err(Refusal::Host),
            Request::Identify => {
                let identity = self.settings.identity.bytes();
                chain.writer.write_obj(identity).map_err(Refusal::Host)
            }
            Request::Discard(segments) => {
                for (Extent { offset, len }, _) in segments.iter() {
                    self.disk.discard(offset, len).map_err(Refusal::Host)?;
                }
                self.written()
            }
            Request::WriteZeroes(segments) => {
                for (Extent { offset, len }, unmap) in segments.iter() {
                    self.disk.write_zeroes(offset, len, unmap).map_err(Refusal::Host)?;
                }
                self.written()
            }
        }
    }

    fn read(&mut self, extent: Extent, into: &mut Writer<'_>) -> Result<(), Refusal> {
        let Self { disk, piece, .. } = self;
        pieces(extent, piece, |offset, data| {
            disk.read_at(offset, data)?;
            into.write_all(data)
        })
    }

    fn write(&mut self, extent: Extent, from: &mut Reader<'_>) -> Result<(), Refusal> {
        let Self { disk, piece, .. } = self;
        pieces(extent, piece, |offset, data| {
            from.read_exact(data)?;
            disk.write_at(offset, data)
        })
    }

    fn written(&mut self) -> Result<(), Refusal> {
        if self.is_write_through() {
            return self.disk.flush().map_err(Refusal::Host);
        }
        Ok(())
    }

    /// The status for a refused request. What the host could not do is logged, less and less often.
    fn refuse(&mut self, why: &Refusal) -> u8 {
        match why {
            Refusal::Unsupported => return UNSUPP,
            Refusal::Malformed => {}
            Refusal::Host(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures.is_power_of_two() {
                    let count = self.failures;
                    log::warn!("a request of a virtual disk fails: {error} ({count} so far)");
                }
            }
        }
        IOERR
    }
}

/// Calls `copy` with each piece of `extent`: where it is, and a buffer of its size.
fn pieces(
    extent: Extent,
    buffer: &mut [u8],
    mut copy: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>,
) -> Result<(), Refusal> {
    let (mut offset, end) = (extent.offset, extent.offset.saturating_add(extent.len));
    while offset < end {
        let step = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
        let Some(piece) = buffer.get_mut(..step) else { break };
        copy(offset, piece).map_err(Refusal::Host)?;
        offset = offset.saturating_add(u64::try_from(step).unwrap_or(u64::MAX));
    }
    Ok(())
}

impl Device for Blk {
    const ID: u32 = 2;

    fn features(&self) -> u64 {
        self.offered
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE]
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        if let (WRITEBACK, [value], true) = (offset, data, self.accepted & CONFIG_WCE != 0) {
            self.set_writeback(*value != 0);
        }
    }

    fn negotiated(&mut self, features: u64) {
        self.accepted = features;
    }

    fn reset(&mut self) {
        self.accepted = 0;
        self.set_writeback(self.offered & CONFIG_WCE != 0);
    }

    fn serve(&mut self, _queue: u16, chain: &mut Chain<'_>) -> Served {
        // The status is the last byte that can be written. Without one there is nothing to say.
        let room = chain.writer.available_bytes();
        let Some(status) = room.checked_sub(1).and_then(|at| chain.writer.split_at(at).ok()) else {
            return Served::Used(0);
        };
        let mut status = status;
        let value = match self.request(chain) {
            Ok(()) => OK,
            Err(why) => self.refuse(&why),
        };
        let told = status.write_obj(value).is_ok();
        // What counts is how much was written from the start on without a gap.
        let data = chain.writer.bytes_written();
        let full = told && chain.writer.available_bytes() == 0;
        Served::Used(u32::try_from(data.saturating_add(usize::from(full))).unwrap_or(u32::MAX))
    }
}

impl Persist for Blk {
    type State = BlkState;

    fn save(&mut self) -> Result<BlkState, SaveError> {
        Ok(BlkState {
            capacity: self.disk.len() / SECTOR,
            read_only: self.disk.is_read_only(),
            writeback: self.writeback(),
        })
    }

    fn restore(&mut self, state: BlkState) -> Result<(), RestoreError> {
        let invalid = |why| RestoreError::Invalid { kind: BlkState::KIND, why };
        let capacity = self.disk.len() / SECTOR;
        if state.capacity != capacity {
            let found = state.capacity;
            let why = format!("the disk had {found} sectors and has {capacity}; give it back");
            return Err(invalid(why));
        }
        if state.read_only != self.disk.is_read_only() {
            let access = if state.read_only { "read-only" } else { "writable" };
            return Err(invalid(format!("the disk was {access}; open it the same way")));
        }
        if state.writeback && self.offered & CONFIG_WCE == 0 {
            return Err(invalid("the cache is on; the device has none to turn on".into()));
        }
        self.set_writeback(state.writeback);
        Ok(())
    }
}

impl fmt::Debug for Blk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blk")
            .field("bytes", &self.disk.len())
            .field("settings", &self.settings)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}
