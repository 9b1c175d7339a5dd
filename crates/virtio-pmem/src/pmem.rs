//! The device.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use device::{Persist, RestoreError, SaveError, Versioned};
use memory::{GuestAddress, Ram, loss::Watch};
use virtio::{Chain, Device, Pending, Served};

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
    /// What the file loses while the guest has it.
    watch: Watch,
}

impl Pmem {
    /// A device for the memory that starts at `start` in `ram`, a multiple of 2 MiB, and was made of
    /// `image` (see [`Image::backing`]). From here on the memory is watched: what the file loses does
    /// not end the machine.
    ///
    /// # Errors
    /// No memory over a file starts there, or the host does not let it be watched.
    pub fn new(image: Image, ram: &Ram, start: GuestAddress) -> io::Result<Self> {
        let mut space = [0; 16];
        let (place, size) = space.split_at_mut(8);
        place.copy_from_slice(&start.0.to_le_bytes());
        size.copy_from_slice(&image.len().to_le_bytes());
        let watch = Watch::new(ram, start)?;
        if watch.source().is_none() {
            log::warn!("nobody tells if the file of persistent memory is cut: no inotify is left");
        }
        Ok(Self { image, start, space, failures: 0, watch })
    }

    /// How many flushes the host could not do.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    fn state(&self) -> PmemState {
        let (start, size) = (self.start.0, self.image.len());
        PmemState { start, size, read_only: self.image.is_read_only() }
    }

    /// How many bytes of the memory are the file's no more: it was cut, or the host cannot give them.
    pub fn lost(&self) -> u64 {
        self.watch.lost()
    }

    fn flush(&mut self) -> u32 {
        if self.image.is_read_only() {
            // What the guest thinks to have written was not written.
            return FAILED;
        }
        // A file system in the network may not have told.
        self.check();
        let Err(error) = self.image.flush().and_then(|()| self.whole()) else { return OK };
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            let count = self.failures;
            log::warn!("persistent memory cannot be flushed: {error} ({count} so far)");
        }
        FAILED
    }

    fn check(&self) {
        if self.watch.check() {
            let lost = self.lost();
            log::warn!(
                "persistent memory has lost {lost} bytes: its file was cut; they are zero now"
            );
        }
    }

    fn whole(&self) -> io::Result<()> {
        match self.lost() {
            0 => Ok(()),
            lost => Err(io::Error::other(format!(
                "{lost} bytes are not the file's any more, which was cut or could not be read or grow"
            ))),
        }
    }
}

impl Device for Pmem {
    const ID: u32 = 27;
    const ATTENTIVE: bool = true;

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

    /// Nothing is ever pending: somebody has changed the file.
    fn complete(&mut self, _: &mut Pending<'_>) {
        if self.watch.check() {
            let lost = self.lost();
            log::warn!(
                "persistent memory has lost {lost} bytes: its file was cut; they are zero now"
            );
        }
    }

    fn sources(&self) -> Vec<RawFd> {
        self.watch.source().map(|source| source.as_raw_fd()).into_iter().collect()
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
