//! The worker: runs the queues of one device.

use std::{fmt, sync::Arc};

use device::{
    Component, EventFd, EventOps, EventSet, Events, MutEventSubscriber, RestoreError, SaveError,
};
use memory::GuestMemory;

use crate::{
    Change, Device, Negotiation, RingError, WorkerState, feature,
    interrupt::Interrupt,
    ring::Ring,
    status,
    turn::{End, Turn},
    walk::Parts,
};

/// A device, its queues and what was agreed with the driver. The I/O thread rings it, transports set
/// it up; all under one lock.
pub(crate) struct Worker<D> {
    device: D,
    memory: GuestMemory,
    negotiation: Negotiation,
    rings: Vec<Ring>,
    doorbells: Vec<EventFd>,
    interrupt: Arc<dyn Interrupt>,
    /// The configuration as the driver was last told of it.
    config: Vec<u8>,
    generation: u32,
    parts: Parts,
    /// How often the device had to ask for a reset, for the log.
    failures: u64,
}

impl<D: Device> Worker<D> {
    /// A worker without doorbells: see [`connect`](Self::connect).
    pub(crate) fn new(
        device: D,
        memory: GuestMemory,
        interrupt: Arc<dyn Interrupt>,
    ) -> Result<Self, RingError> {
        let rings = device.queues().iter().map(|&max| Ring::new(max)).collect::<Result<_, _>>()?;
        Ok(Self {
            memory,
            negotiation: Negotiation::new(device.features() & feature::DEVICE | feature::OURS),
            rings,
            doorbells: Vec::new(),
            interrupt,
            config: device.config().to_vec(),
            generation: 0,
            parts: Parts::default(),
            failures: 0,
            device,
        })
    }

    /// Gives the worker its doorbells, one for each queue.
    pub(crate) fn connect(&mut self, doorbells: Vec<EventFd>) {
        self.doorbells = doorbells;
    }

    pub(crate) fn queues(&self) -> usize {
        self.rings.len()
    }

    pub(crate) fn negotiation(&self) -> &Negotiation {
        &self.negotiation
    }

    pub(crate) fn accept(&mut self, word: u32, bits: u32) {
        self.negotiation.accept(word, bits);
    }

    pub(crate) fn write_status(&mut self, value: u8) {
        match self.negotiation.write(value) {
            Change::Reset => self.reset(),
            Change::Gained(bits) => {
                if bits & status::FEATURES_OK != 0 {
                    self.device.negotiated(self.negotiation.features());
                    self.refresh_config(true);
                }
                if bits & status::DRIVER_OK != 0 {
                    self.ring_all();
                }
            }
        }
    }

    fn reset(&mut self) {
        self.device.reset();
        self.rings.iter_mut().for_each(Ring::reset);
        self.interrupt.clear();
        self.refresh_config(false);
    }

    pub(crate) fn ring(&self, index: u32) -> Option<&Ring> {
        self.rings.get(usize::try_from(index).ok()?)
    }

    /// Queue number `index`, if the driver may set it up now.
    pub(crate) fn ring_to_set(&mut self, index: u32) -> Option<&mut Ring> {
        let agreed = self.negotiation.is_agreed();
        let ring = self.rings.get_mut(usize::try_from(index).ok()?)?;
        (agreed && !ring.is_ready()).then_some(ring)
    }

    /// The driver puts a queue into use. If it cannot be used, it stays out of use and the device
    /// asks for a reset.
    pub(crate) fn enable(&mut self, index: u32) {
        let events = self.negotiation.features() & feature::EVENT_IDX != 0;
        let memory = Arc::clone(&self.memory);
        let enabled = self.ring_to_set(index).map(|ring| ring.enable(&memory, events));
        match enabled {
            Some(Err(error)) => self.fail(&error),
            // The ring may be one on which the device had asked for no notifications.
            Some(Ok(())) if self.negotiation.is_running() => {
                self.ring_doorbell(usize::try_from(index).unwrap_or(usize::MAX));
            }
            Some(Ok(())) | None => {}
        }
    }

    /// The driver takes a queue out of use.
    pub(crate) fn disable(&mut self, index: u32) {
        let ring = usize::try_from(index).ok().and_then(|index| self.rings.get_mut(index));
        if let Some(ring) = ring {
            ring.disable();
        }
    }

    /// The driver resets a queue (virtio 1.3 §2.6.1).
    pub(crate) fn reset_ring(&mut self, index: u32) {
        if self.negotiation.features() & feature::RING_RESET == 0 {
            return;
        }
        let ring = usize::try_from(index).ok().and_then(|index| self.rings.get_mut(index));
        if let Some(ring) = ring {
            ring.reset();
        }
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Reads the configuration; `None` if `data` does not lie inside.
    pub(crate) fn read_config(&self, offset: usize, data: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(data.len())?;
        data.copy_from_slice(self.device.config().get(offset..end)?);
        Some(())
    }

    /// Writes the configuration; `None` if `data` does not lie inside.
    pub(crate) fn write_config(&mut self, offset: usize, data: &[u8]) -> Option<()> {
        let end = offset.checked_add(data.len())?;
        self.device.config().get(offset..end)?;
        if self.negotiation.status() & status::DRIVER != 0 {
            self.device.write_config(offset, data);
            self.refresh_config(false);
        }
        Some(())
    }

    /// Lets `touch` at the device, and sees to what follows.
    pub(crate) fn touch<R>(&mut self, touch: impl FnOnce(&mut D) -> R) -> R {
        let result = touch(&mut self.device);
        self.refresh_config(true);
        self.ring_stalled();
        result
    }

    /// Notes a changed configuration, and tells the driver if it is to know.
    fn refresh_config(&mut self, announce: bool) {
        if self.device.config() == self.config {
            return;
        }
        self.config.clear();
        self.config.extend_from_slice(self.device.config());
        self.generation = self.generation.wrapping_add(1);
        if announce && self.negotiation.is_running() {
            self.interrupt.config();
        }
    }

    /// Runs queue number `index` for one turn.
    fn run(&mut self, index: u16) {
        let Some(ring) = self.rings.get_mut(usize::from(index)) else { return };
        if !self.negotiation.is_running() || !ring.is_ready() {
            return;
        }
        let Self { device, memory, parts, .. } = self;
        let turn = Turn { index, memory, parts };
        let (work, end) = match turn.run(device, ring) {
            Ok(done) => done,
            Err(broken) => return self.fail(&broken),
        };
        ring.stalled = end == End::Stalled;
        if work.interrupt {
            self.interrupt.used(index);
        }
        if end == End::Budget {
            self.ring_doorbell(index.into());
        }
        self.refresh_config(true);
        if work.chains > 0 {
            self.ring_stalled_but(Some(index.into()));
        }
    }

    /// The device can no longer be used as it is; its driver must reset it.
    fn fail(&mut self, why: &dyn fmt::Display) {
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            let count = self.failures;
            log::warn!("virtio device type {} needs a reset: {why} ({count} so far)", D::ID);
        }
        if self.negotiation.fail() {
            self.interrupt.config();
        }
    }

    fn ring_all(&self) {
        (0..self.doorbells.len()).for_each(|index| self.ring_doorbell(index));
    }

    fn ring_stalled(&self) {
        self.ring_stalled_but(None);
    }

    fn ring_stalled_but(&self, but: Option<usize>) {
        let stalled = self.rings.iter().enumerate().filter(|(_, ring)| ring.stalled);
        stalled.filter(|(index, _)| Some(*index) != but).for_each(|(index, _)| {
            self.ring_doorbell(index);
        });
    }

    /// Has the I/O thread run a queue. An event that cannot be written holds 2^64 - 2 already, so
    /// it rings.
    fn ring_doorbell(&self, index: usize) {
        if let Some(doorbell) = self.doorbells.get(index) {
            drop(doorbell.write(1));
        }
    }

    pub(crate) fn save(&mut self) -> Result<WorkerState, SaveError> {
        Ok(WorkerState {
            status: self.negotiation.status(),
            features: self.negotiation.accepted(),
            generation: self.generation,
            rings: self.rings.iter().map(Ring::save).collect(),
            device: self.device.save_section()?,
        })
    }

    /// Takes a saved state, of a device whose section is called `kind`, or changes nothing.
    pub(crate) fn restore(
        &mut self,
        kind: &'static str,
        state: WorkerState,
    ) -> Result<(), RestoreError> {
        let invalid = |why: &dyn fmt::Display| RestoreError::Invalid { kind, why: why.to_string() };
        let offered = self.negotiation.offered();
        let negotiation = Negotiation::restored(offered, state.features, state.status)
            .map_err(|error| invalid(&error))?;
        if state.rings.len() != self.rings.len() {
            let (found, own) = (state.rings.len(), self.rings.len());
            return Err(invalid(&format_args!("{found} queues saved; the device has {own}")));
        }
        let events = negotiation.features() & feature::EVENT_IDX != 0;
        let restored = self.rings.iter().zip(&state.rings).map(|(ring, state)| {
            if state.ready && negotiation.features() == 0 {
                return Err(invalid(&"a queue is in use before features were agreed on"));
            }
            ring.restored(state, &self.memory, events).map_err(|error| invalid(&error))
        });
        let rings = restored.collect::<Result<_, _>>()?;
        self.device.restore_section(state.device)?;

        self.rings = rings;
        self.negotiation = negotiation;
        self.generation = state.generation;
        self.device.negotiated(self.negotiation.features());
        self.config = self.device.config().to_vec();
        // Whatever rang while the state was saved is not in it.
        self.ring_all();
        Ok(())
    }
}

impl<D: Device> MutEventSubscriber for Worker<D> {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let doorbells = self
            .doorbells
            .iter()
            .zip(0..)
            .map(|(doorbell, index)| Events::with_data(doorbell, index, EventSet::IN));
        let ready = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
        let sources = self.device.sources().into_iter();
        let sources = sources.map(|source| Events::with_data_raw(source, SOURCE, ready));
        for events in doorbells.chain(sources) {
            if let Err(error) = ops.add(events) {
                log::error!("an event of virtio device type {} is lost: {error}", D::ID);
            }
        }
    }

    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        if events.data() == SOURCE {
            return self.ring_stalled();
        }
        let Ok(index) = u16::try_from(events.data()) else { return };
        if let Some(doorbell) = self.doorbells.get(usize::from(index)) {
            // Nothing to read means that it was read already: one turn too many does no harm.
            drop(doorbell.read());
        }
        self.run(index);
    }
}

/// What the events of sources carry in place of a queue number.
const SOURCE: u32 = u32::MAX;
