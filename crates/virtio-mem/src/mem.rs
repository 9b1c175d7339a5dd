//! The device.

use std::{fmt, ops::Range};

use device::{Persist, RestoreError, SaveError, Versioned};
use memory::{DiscardError, GuestMemory, discard};
use virtio::{Chain, Device, Served};

use crate::{
    MemConfig, MemError, MemState, RequestedError,
    blocks::{Blocks, State},
    region::Region,
    request::{Answer, Extent, Request},
};

/// The request queue. Linux has one request in flight; and each may be about many gibibytes, so that
/// few make a turn that is long enough.
const QUEUE: u16 = 4;
/// `VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE`: the driver does not read what is unplugged. Nothing breaks
/// if it does all the same.
const UNPLUGGED_INACCESSIBLE: u64 = 1 << 1;

/// Where `plugged_size` and `requested_size` are in the configuration space (virtio 1.3 §5.15.4).
const PLUGGED: Range<usize> = 40..48;
const REQUESTED: Range<usize> = 48..56;

/// The memory device: the driver plugs blocks of a region to have as much memory as is requested of
/// it, and unplugs them to have less.
pub struct Mem {
    memory: GuestMemory,
    region: Region,
    blocks: Blocks,
    requested: u64,
    space: [u8; 56],
    failures: u64,
}

impl Mem {
    /// A device for the region of `memory` that `config` names, with nothing plugged and nothing
    /// requested. The region must be memory of the machine (see `memory::Ram::with`) of which the
    /// guest is told in no other way, and read as zero.
    ///
    /// # Errors
    /// The region is not one of whole blocks, or not memory of the machine.
    pub fn new(memory: GuestMemory, config: MemConfig) -> Result<Self, MemError> {
        let region = config.region(&memory)?;
        let no_memory = || MemError::NoMemory { start: region.start, len: region.len };
        let count = usize::try_from(region.len / region.block).map_err(|_| no_memory())?;
        let mut space = [0; 56];
        put(&mut space, 0..8, region.block);
        put(&mut space, 16..24, region.start);
        put(&mut space, 24..32, region.len);
        // All of it can be used at any time, so this never has to grow.
        put(&mut space, 32..40, region.len);
        let blocks = Blocks::new(count);
        Ok(Self { memory, region, blocks, requested: 0, space, failures: 0 })
    }

    /// How much the driver is asked to have plugged, bytes.
    pub fn requested(&self) -> u64 {
        self.requested
    }

    /// How much is plugged now, bytes. It comes near to what is requested as the driver sees to it; a
    /// guest may be unable to give back memory that it uses.
    pub fn plugged(&self) -> u64 {
        self.blocks.plugged().saturating_mul(self.region.block)
    }

    /// The most that can be plugged, bytes.
    pub fn most(&self) -> u64 {
        self.region.len
    }

    /// Asks the driver to have `bytes` plugged; less than now makes it unplug. Through a
    /// [`Handle`](virtio::Handle) the driver is told at once.
    ///
    /// # Errors
    /// That is not whole blocks, or more than there is.
    pub fn set_requested(&mut self, bytes: u64) -> Result<(), RequestedError> {
        let Region { block, len: most, .. } = self.region;
        if bytes > most || !bytes.is_multiple_of(block) {
            return Err(RequestedError { bytes, block, most });
        }
        self.requested = bytes;
        self.tell();
        Ok(())
    }

    /// How often the host did not take back what was unplugged.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Brings the configuration space up to date.
    fn tell(&mut self) {
        let plugged = self.plugged();
        put(&mut self.space, PLUGGED, plugged);
        put(&mut self.space, REQUESTED, self.requested);
    }

    fn answer(&mut self, request: Request) -> Answer {
        let answer = match request {
            Request::Plug(extent) => self.plug(extent),
            Request::Unplug(extent) => self.unplug(extent),
            Request::UnplugAll => self.unplug_all(),
            Request::State(extent) => match self.find(extent) {
                Some(blocks) => Answer::State(self.blocks.state(blocks)),
                None => Answer::Error,
            },
            Request::Unknown => Answer::Error,
        };
        self.tell();
        answer
    }

    fn find(&self, Extent { addr, count }: Extent) -> Option<Range<usize>> {
        self.region.blocks(addr, count)
    }

    fn plug(&mut self, extent: Extent) -> Answer {
        let Some(blocks) = self.find(extent) else { return Answer::Error };
        if self.blocks.state(blocks.clone()) != State::Unplugged {
            return Answer::Error;
        }
        let (_, more) = self.region.place(&blocks);
        if self.plugged().saturating_add(more) > self.requested {
            return Answer::Refused;
        }
        self.blocks.set(blocks, true);
        Answer::Done
    }

    fn unplug(&mut self, extent: Extent) -> Answer {
        let Some(blocks) = self.find(extent) else { return Answer::Error };
        if self.blocks.state(blocks.clone()) != State::Plugged {
            return Answer::Error;
        }
        self.give_back(blocks)
    }

    fn unplug_all(&mut self) -> Answer {
        while let Some(run) = self.blocks.first_run() {
            match self.give_back(run) {
                Answer::Done => {}
                answer => return answer,
            }
        }
        Answer::Done
    }

    fn give_back(&mut self, blocks: Range<usize>) -> Answer {
        let (start, len) = self.region.place(&blocks);
        match discard(&self.memory, start, len) {
            Ok(_) => {
                self.blocks.set(blocks, false);
                Answer::Done
            }
            Err(error) => {
                self.failed(&error);
                Answer::Busy
            }
        }
    }

    fn failed(&mut self, error: &DiscardError) {
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            let count = self.failures;
            log::warn!("memory stays plugged: {error} ({count} so far)");
        }
    }
}

fn put(space: &mut [u8], at: Range<usize>, value: u64) {
    if let Some(field) = space.get_mut(at) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}

impl Device for Mem {
    const ID: u32 = 24;

    fn features(&self) -> u64 {
        UNPLUGGED_INACCESSIBLE
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE]
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn serve(&mut self, _queue: u16, chain: &mut Chain<'_>) -> Served {
        // Without room for an answer nobody would know what is plugged now.
        if chain.writer.available_bytes() < Answer::LEN {
            return Served::Used(0);
        }
        let answer = match Request::read(&mut chain.reader) {
            Ok(request) => self.answer(request),
            Err(_) => Answer::Error,
        };
        let told = chain.writer.write_obj(answer.bytes());
        Served::Used(if told.is_ok() { 10 } else { 0 })
    }
}

impl Persist for Mem {
    type State = MemState;

    fn save(&mut self) -> Result<MemState, SaveError> {
        let Region { start, len, block } = self.region;
        let plugged = self.blocks.words().to_vec();
        Ok(MemState { start, len, block, requested: self.requested, plugged })
    }

    fn restore(&mut self, state: MemState) -> Result<(), RestoreError> {
        let invalid = |why| RestoreError::Invalid { kind: MemState::KIND, why };
        let MemState { start, len, block, requested, plugged } = state;
        if (Region { start, len, block }) != self.region {
            let Region { start: s, len: l, block: b } = self.region;
            return Err(invalid(format!(
                "the region was {len} bytes at {start:#x} in blocks of {block} and is {l} bytes at \
                 {s:#x} in blocks of {b}; give it back"
            )));
        }
        let Some(blocks) = Blocks::from_words(self.blocks.count(), plugged) else {
            return Err(invalid("blocks are plugged that the region does not have".into()));
        };
        self.set_requested(requested).map_err(|error| invalid(error.to_string()))?;
        self.blocks = blocks;
        self.tell();
        Ok(())
    }
}

impl fmt::Debug for Mem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mem")
            .field("region", &self.region)
            .field("plugged", &self.plugged())
            .field("requested", &self.requested)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}
