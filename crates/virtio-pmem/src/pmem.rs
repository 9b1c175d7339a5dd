//! The device.

use device::{Persist, RestoreError, SaveError, Versioned};
use memory::GuestAddress;
use virtio::{Chain, Device, Served};

use crate::{Image, PmemState};

/// The request queue. Linux has one flush in flight for each CPU that syncs.
const QUEUE: u16 = 64;
/// `VIRTIO_PMEM_REQ_TYPE_FLUSH`, the only request there is (virtio 1.3 §5.19.6).
const FLUSH: u32 = 0;
/// The answer to a flush that is done.
const OK: u32 = 0;
/// The answer to a request that failed: -1.
const FAILED: u32 = u32::MAX;

/// The persistent memory device: tells a guest where the memory is, and makes what it wrote there
/// last when it asks.
#[derive(Debug)]
pub struct Pmem {
    image: Image,
    start: GuestAddress,
    space: [u8; 16],
    failures: u64,
}

impl Pmem {
    /// A device for memory made of `image` (see [`Image::backing`]) that lies at `start`, a multiple
    /// of 2 MiB. That the machine has that memory there is the caller's care.
    pub fn new(image: Image, start: GuestAddress) -> Self {
        let mut space = [0; 16];
        let (place, size) = space.split_at_mut(8);
        place.copy_from_slice(&start.0.to_le_bytes());
        size.copy_from_slice(&image.len().to_le_bytes());
        Self { image, start, space, failures: 0 }
    }

    /// How many flushes the host could not do.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    fn state(&self) -> PmemState {
        let (start, size) = (self.start.0, self.image.len());
        PmemState { start, size, read_only: self.image.is_read_only() }
    }

    fn flush(&mut self) -> u32 {
        let Err(error) = self.image.flush() else { return OK };
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            let count = self.failures;
            log::warn!("persistent memory cannot be flushed: {error} ({count} so far)");
        }
        FAILED
    }
}

impl Device for Pmem {
    const ID: u32 = 27;

    fn queues(&self) -> &[u16] {
        &[QUEUE]
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn serve(&mut self, _queue: u16, chain: &mut Chain<'_>) -> Served {
        // Without room for an answer nobody would know whether anything was done.
        if chain.writer.available_bytes() < size_of::<u32>() {
            return Served::Used(0);
        }
        let kind = chain.reader.read_obj().map(u32::from_le_bytes);
        let answer = match kind {
            Ok(FLUSH) => self.flush(),
            Ok(_) | Err(_) => FAILED,
        };
        let told = chain.writer.write_obj(answer.to_le_bytes());
        Served::Used(if told.is_ok() { 4 } else { 0 })
    }
}

impl Persist for Pmem {
    type State = PmemState;

    fn save(&mut self) -> Result<PmemState, SaveError> {
        Ok(self.state())
    }

    fn restore(&mut self, state: PmemState) -> Result<(), RestoreError> {
        let own = self.state();
        if state == own {
            return Ok(());
        }
        let tell = |PmemState { start, size, read_only }| {
            let access = if read_only { "read-only" } else { "writable" };
            format!("{size} bytes at {start:#x}, {access}")
        };
        let why = format!("it was {} and is {}; give it back", tell(state), tell(own));
        Err(RestoreError::Invalid { kind: PmemState::KIND, why })
    }
}
