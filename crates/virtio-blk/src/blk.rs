//! The device.

use std::{fmt, io, os::fd::RawFd, path::Path};

use device::{Persist, RestoreError, SaveError, Versioned};
use disk::{Access, Disk, OpenError, Operation, Raw, SECTOR, Uring};
use rate::{Rates, Throttle};
use virtio::{Chain, Device, Pending, Served, Writer};

use crate::{
    BlkConfig, BlkState, Cache, Engine, EngineError,
    request::{Extent, Limits, Refusal, Request},
    space::{self, CONFIG_WCE, DISCARD, FLUSH, QUEUE, WRITE_ZEROES, WRITEBACK},
    transfer::Transfer,
};

/// Of a request in the ring: it fills the guest's room.
const FILLS: u64 = 1 << 32;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// The block device: serves a guest's requests from a [`Disk`].
pub struct Blk {
    disk: Box<dyn Disk>,
    settings: BlkConfig,
    queues: Vec<u16>,
    offered: u64,
    accepted: u64,
    space: Vec<u8>,
    transfer: Transfer,
    /// Requests that are under way, in the io_uring engine.
    uring: Option<Uring>,
    throttle: Option<Throttle>,
    failures: u64,
}

/// What became of a request.
enum Progress {
    /// Over, with so many bytes written to the guest.
    Done(usize, Result<(), Refusal>),
    Pending,
    Stall,
}

impl Blk {
    /// The most queues that a device can have.
    pub const QUEUES: u16 = 32;
    /// The most requests that the io_uring engine has under way.
    pub const DEPTH: u16 = 256;

    /// A device with `disk` behind it, one queue, and the sync engine. Its access is looked at now and
    /// must not change; its size changes with [`resize`](Self::resize).
    pub fn new(disk: impl Disk + 'static, config: BlkConfig) -> Self {
        let offered = space::features(&disk, config.cache, 1);
        let space = space::config(&disk, offered, 1);
        Self {
            transfer: Transfer::default(),
            disk: Box::new(disk),
            settings: config,
            queues: vec![QUEUE],
            offered,
            accepted: 0,
            space,
            uring: None,
            throttle: None,
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

    /// Gives the device `count` queues, of which there are 1 to [`QUEUES`](Self::QUEUES).
    #[must_use]
    pub fn queues(mut self, count: u16) -> Self {
        let count = count.clamp(1, Self::QUEUES);
        self.queues = vec![QUEUE; count.into()];
        self.offered = space::features(self.disk.as_ref(), self.settings.cache, count);
        self.space = space::config(self.disk.as_ref(), self.offered, count);
        self
    }

    /// Serves requests by `engine`.
    ///
    /// # Errors
    /// It was asked for by name and cannot be had.
    pub fn engine(mut self, engine: Engine) -> Result<Self, EngineError> {
        self.uring = match engine {
            Engine::Sync => None,
            Engine::IoUring => Some(self.uring()?),
            Engine::Auto => match self.uring() {
                Ok(uring) => Some(uring),
                Err(EngineError::NoFile) => None,
                Err(EngineError::IoUring(error)) => {
                    log::info!("a virtual disk has the sync engine: no io_uring here: {error}");
                    None
                }
            },
        };
        Ok(self)
    }

    fn uring(&self) -> Result<Uring, EngineError> {
        let file = self.disk.file().ok_or(EngineError::NoFile)?;
        Uring::new(file.fd, Self::DEPTH).map_err(EngineError::IoUring)
    }

    /// Serves no more than `rates` allow: requests beyond them wait in their queue. Operations are
    /// requests of any kind, bytes those that are read or written.
    ///
    /// # Errors
    /// The host has no timer left.
    pub fn limit(self, rates: Rates) -> io::Result<Self> {
        Ok(Self { throttle: Some(Throttle::new(rates)?), ..self })
    }

    /// Changes the rates of a disk that was made with a [`limit`](Self::limit), by the device's
    /// [`Handle`](virtio::Handle) while the guest runs: what waits is tried again. A limit of no rates
    /// at all is one too. False if the disk was made without: then nothing changes.
    pub fn set_rates(&mut self, rates: Rates) -> bool {
        self.throttle.as_mut().map(|throttle| throttle.set(rates)).is_some()
    }

    /// Looks at the size of the disk again, and tells the guest if it has changed; call this through
    /// the device's [`Handle`](virtio::Handle) after the image has grown or shrunk. The size now,
    /// bytes.
    ///
    /// # Errors
    /// The host cannot say; the size stays as it was.
    pub fn resize(&mut self) -> io::Result<u64> {
        let len = self.disk.refresh()?;
        if let Some(capacity) = self.space.first_chunk_mut() {
            *capacity = space::capacity(self.disk.as_ref());
        }
        Ok(len)
    }

    /// How many requests have failed because the host could not do what they asked for.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Whether requests are served by io_uring.
    pub fn is_io_uring(&self) -> bool {
        self.uring.is_some()
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

    fn request(&mut self, queue: u16, chain: &mut Chain<'_>) -> Progress {
        let request = match self.limits().decode(&mut chain.reader, &chain.writer) {
            Ok(request) => request,
            Err(why) => return Progress::Done(0, Err(why)),
        };
        if self.uring.as_ref().is_some_and(|uring| !uring.has_room()) {
            return Progress::Stall;
        }
        let bytes = match request {
            Request::Read(extent) | Request::Write(extent) => extent.len,
            _ => 0,
        };
        if self.throttle.as_mut().is_some_and(|throttle| !throttle.take(1, bytes)) {
            return Progress::Stall;
        }
        match self.start(queue, &request, chain) {
            Ok(true) => Progress::Pending,
            Ok(false) => self.perform(&request, chain),
            Err(error) => Progress::Done(0, Err(Refusal::Host(error))),
        }
    }

    /// Starts a request in the ring; false if it is not one for it.
    fn start(&mut self, queue: u16, request: &Request, chain: &mut Chain<'_>) -> io::Result<bool> {
        let durable = self.is_write_through();
        let Some(uring) = &mut self.uring else { return Ok(false) };
        if let Request::Read(extent) | Request::Write(extent) = request {
            let align = self.disk.file().map_or(1, |file| file.align);
            if !self.transfer.is_aligned(align, *extent, chain) {
                return Ok(false);
            }
        }
        let memory = chain.memory();
        let Chain { reader, writer, head, .. } = chain;
        let tag = (u64::from(queue) << 16) | u64::from(*head);
        let size = |extent: &Extent| usize::try_from(extent.len).unwrap_or(usize::MAX);
        match request {
            Request::Read(extent) if extent.len > 0 => {
                let what = (Operation::Read(extent.offset), tag | FILLS);
                uring
                    .start(memory, what, |places| writer.gather(size(extent), places).map(drop))?;
            }
            Request::Write(extent) if extent.len > 0 => {
                let write = if durable { Operation::WriteThrough } else { Operation::Write };
                let what = (write(extent.offset), tag);
                uring
                    .start(memory, what, |places| reader.gather(size(extent), places).map(drop))?;
            }
            Request::Flush if self.settings.cache != Cache::Unsafe => {
                uring.start(memory, (Operation::Flush, tag), |_| Ok(()))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Does a request to its end.
    fn perform(&mut self, request: &Request, chain: &mut Chain<'_>) -> Progress {
        if let Request::Read(extent) = *request {
            let (done, result) = self.transfer.read(self.disk.as_mut(), extent, chain);
            return Progress::Done(done, result.map_err(Refusal::Host));
        }
        let result = self.change(request, chain);
        Progress::Done(chain.writer.bytes_written(), result.map_err(Refusal::Host))
    }

    fn change(&mut self, request: &Request, chain: &mut Chain<'_>) -> io::Result<()> {
        let disk = self.disk.as_mut();
        match *request {
            Request::Read(_) => return Ok(()),
            Request::Write(extent) => self.transfer.write(disk, extent, chain)?,
            Request::Flush if self.settings.cache == Cache::Unsafe => return Ok(()),
            Request::Flush => return disk.flush(),
            Request::Identify => return chain.writer.write_obj(self.settings.identity.bytes()),
            Request::Discard(segments) => segments
                .iter()
                .try_for_each(|(Extent { offset, len }, _)| disk.discard(offset, len))?,
            Request::WriteZeroes(segments) => {
                segments.iter().try_for_each(|(Extent { offset, len }, unmap)| {
                    disk.write_zeroes(offset, len, unmap)
                })?
            }
        }
        if self.is_write_through() {
            return self.disk.flush();
        }
        Ok(())
    }

    /// Writes the status of a request that is over, of whose answer `done` bytes were written: how
    /// many bytes that is without a gap.
    fn answer(
        &mut self,
        mut status: Writer<'_>,
        (done, room): (usize, usize),
        result: &Result<(), Refusal>,
    ) -> u32 {
        let value = result.as_ref().map_or_else(|why| self.refuse(why), |()| OK);
        let told = status.write_obj(value).is_ok() && done == room;
        u32::try_from(done.saturating_add(usize::from(told))).unwrap_or(u32::MAX)
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

/// Takes the place of the status, the last byte that can be written, off `chain`: what is left of the
/// room, and the place.
fn split<'a>(chain: &mut Chain<'a>) -> Option<(usize, Writer<'a>)> {
    let room = chain.writer.available_bytes().checked_sub(1)?;
    Some((room, chain.writer.split_at(room).ok()?))
}

impl Device for Blk {
    const ID: u32 = 2;

    fn features(&self) -> u64 {
        self.offered
    }

    fn queues(&self) -> &[u16] {
        &self.queues
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

    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served {
        // Without a place for the status there is nothing to say.
        let Some((room, status)) = split(chain) else { return Served::Used(0) };
        match self.request(queue, chain) {
            Progress::Done(done, result) => {
                Served::Used(self.answer(status, (done, room), &result))
            }
            Progress::Pending => Served::Pending,
            Progress::Stall => Served::Stall,
        }
    }

    fn complete(&mut self, pending: &mut Pending<'_>) {
        let Some(mut uring) = self.uring.take() else { return };
        uring.run(|tag, done, result| {
            let [head_low, head_high, queue_low, queue_high, ..] = tag.to_le_bytes();
            let head = u16::from_le_bytes([head_low, head_high]);
            let queue = u16::from_le_bytes([queue_low, queue_high]);
            let result = result.map_err(Refusal::Host);
            pending.finish(queue, head, |chain| {
                let Some((room, status)) = split(chain) else { return 0 };
                let done = if tag & FILLS != 0 { done } else { 0 };
                self.answer(status, (done, room), &result)
            });
        });
        self.uring = Some(uring);
    }

    fn sources(&self) -> Vec<RawFd> {
        let uring = self.uring.iter().map(Uring::source);
        uring.chain(self.throttle.iter().map(Throttle::source)).collect()
    }
}

impl Persist for Blk {
    type State = BlkState;

    fn save(&mut self) -> Result<BlkState, SaveError> {
        // The guest that comes back takes all for written that was answered; a disk may keep some of it
        // in this process.
        if !self.disk.is_read_only() {
            self.disk.flush().map_err(|error| SaveError::Read {
                what: "a virtual disk, which cannot be flushed,".into(),
                source: error.into(),
            })?;
        }
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
