//! The worker: runs the queues of one device.

use std::{fmt, sync::Arc};

use device::{
    Component, EventFd, EventOps, EventSet, Events, MutEventSubscriber, RestoreError, SaveError,
};
use memory::GuestMemory;

use crate::{
    Call, Change, Device, Negotiation, Pending, RingError, WorkerState,
    drain::Sources,
    feature,
    interrupt::Interrupt,
    offload,
    ring::Ring,
    status,
    turn::{Broken, End, Scratch, Turn},
};

/// A device, its queues and what was agreed with the driver. The I/O thread rings it, transports set
/// it up; all under one lock.
pub(crate) struct Worker<D> {
    device: D,
    memory: GuestMemory,
    negotiation: Negotiation,
    rings: Vec<Ring>,
    /// Each has the I/O thread look at a queue.
    doorbells: Vec<EventFd>,
    /// Of a device whose queues are served elsewhere. The transport's doorbells are there then.
    offload: Option<offload::Events>,
    interrupt: Arc<dyn Interrupt>,
    /// The configuration as the driver was last told of it.
    config: Vec<u8>,
    generation: u32,
    scratch: Scratch,
    /// How often the device had to ask for a reset, for the log.
    failures: u64,
    /// Queues are left alone: see [`pause`](Self::pause).
    paused: bool,
}

impl<D: Device> Worker<D> {
    /// A worker without doorbells: see [`connect`](Self::connect).
    pub(crate) fn new(
        mut device: D,
        memory: GuestMemory,
        interrupt: Arc<dyn Interrupt>,
    ) -> Result<Self, RingError> {
        let rings = device.queues().iter().map(|&max| Ring::new(max));
        let rings = rings.collect::<Result<Vec<_>, _>>()?;
        let elsewhere = device.offload().is_some();
        let ours = if elsewhere {
            device.features() & feature::OFFLOAD | feature::OURS & !feature::OFFLOAD
        } else {
            feature::OURS
        };
        Ok(Self {
            scratch: Scratch::new(memory.clone()),
            memory,
            negotiation: Negotiation::new(device.features() & feature::DEVICE | ours),
            doorbells: if elsewhere { offload::events(rings.len())? } else { Vec::new() },
            offload: elsewhere.then(|| offload::Events::new(rings.len())).transpose()?,
            rings,
            interrupt,
            config: device.config().to_vec(),
            generation: 0,
            failures: 0,
            paused: false,
            device,
        })
    }

    /// Gives the worker its doorbells, one for each queue.
    pub(crate) fn connect(&mut self, doorbells: Vec<EventFd>) {
        match &mut self.offload {
            Some(events) => events.kicks = doorbells,
            None => self.doorbells = doorbells,
        }
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
                if bits & status::FAILED != 0 {
                    self.take_back_all();
                }
            }
        }
    }

    fn reset(&mut self) {
        self.drain();
        self.take_back_all();
        self.device.reset();
        self.rings.iter_mut().for_each(Ring::reset);
        self.interrupt.clear();
        self.refresh_config(false);
    }

    pub(crate) fn ring(&self, index: u32) -> Option<&Ring> {
        self.rings.get(usize::try_from(index).ok()?)
    }

    fn ring_mut(&mut self, index: u32) -> Option<&mut Ring> {
        self.rings.get_mut(usize::try_from(index).ok()?)
    }

    /// Queue number `index`, if the driver may set it up now.
    pub(crate) fn ring_to_set(&mut self, index: u32) -> Option<&mut Ring> {
        let agreed = self.negotiation.is_agreed();
        let ring = self.ring_mut(index)?;
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
        self.drain();
        self.take_back(index);
        if let Some(ring) = self.ring_mut(index) {
            ring.disable();
        }
    }

    /// The driver resets a queue (virtio 1.3 §2.6.1).
    pub(crate) fn reset_ring(&mut self, index: u32) {
        if self.negotiation.features() & feature::RING_RESET == 0 {
            return;
        }
        self.drain();
        self.take_back(index);
        if let Some(ring) = self.ring_mut(index) {
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
        if !self.negotiation.is_running() || !ring.is_ready() || self.paused {
            return;
        }
        let Self { device, memory, scratch, offload, .. } = self;
        if let Some(events) = offload {
            let handed = events.hand_over(index, device, (ring, memory));
            return handed.unwrap_or_else(|error| self.fail(&error));
        }
        let turn = Turn { index, memory, scratch };
        let (work, end) = match turn.run(device, ring) {
            Ok(done) => done,
            Err(broken) => {
                self.fail(&broken);
                // What was kept before is started and ends; its driver may wait for that.
                return self.complete();
            }
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
        if work.kept > 0 {
            self.complete();
        }
    }

    /// Runs the queues that the device has stalled, each for one turn.
    fn run_stalled(&mut self) {
        for index in 0..self.rings.len() {
            if self.rings.get(index).is_some_and(|ring| ring.stalled)
                && let Ok(index) = u16::try_from(index)
            {
                self.run(index);
            }
        }
    }

    fn take_back(&mut self, index: u32) {
        let Ok(index) = u16::try_from(index) else { return };
        if let Some(ring) = self.rings.get_mut(usize::from(index)) {
            offload::take_back(index, &mut self.device, ring);
        }
    }

    /// Has nobody else serve a queue any longer.
    fn take_back_all(&mut self) {
        (0..).take(self.rings.len()).for_each(|index| self.take_back(index));
    }

    /// Sees to a server of queues that has something to say.
    fn heed_server(&mut self) {
        let Some(server) = self.device.offload() else { return };
        let heeded = server.ready();
        self.refresh_config(true);
        if let Err(error) = heeded {
            self.fail(&error);
        }
    }

    /// A server of queues has used buffers, says event number `call`.
    fn called(&mut self, call: u32) {
        let Ok(index) = u16::try_from(call ^ CALL) else { return };
        let call = self.offload.as_ref().and_then(|events| events.calls.get(usize::from(index)));
        // Nothing to read means that somebody else has seen to it.
        if call.is_some_and(Call::take) && self.negotiation.is_running() {
            self.interrupt.used(index);
            if let Some(server) = self.device.offload() {
                server.called(index);
            }
        }
    }

    fn pending(&self) -> usize {
        self.rings.iter().map(Ring::pending).sum()
    }

    /// Has the device end what it can of what it has kept.
    fn complete(&mut self) {
        let running = self.negotiation.is_running();
        let mut pending = Pending::new(&mut self.rings, running);
        self.device.complete(&mut pending);
        if let Some(broken) = pending.into_broken() {
            return self.fail(&broken);
        }
        let mut progress = false;
        for (index, ring) in (0..).zip(&mut self.rings) {
            if !std::mem::take(&mut ring.untold) {
                continue;
            }
            progress = true;
            match ring.wants_interrupt() {
                Ok(true) => self.interrupt.used(index),
                Ok(false) => {}
                Err(source) => return self.fail(&Broken::Ring { index, source }),
            }
        }
        if progress {
            self.refresh_config(true);
            self.ring_stalled();
        }
    }

    /// Waits until the device has ended all that it has kept.
    fn drain(&mut self) {
        if self.pending() == 0 {
            return;
        }
        self.complete();
        let sources = Sources::new(&self.device.sources());
        while self.pending() > 0 {
            sources.wait();
            self.complete();
        }
    }

    /// The device can no longer be used as it is; its driver must reset it.
    fn fail(&mut self, why: &dyn fmt::Display) {
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            let count = self.failures;
            log::warn!("virtio device type {} needs a reset: {why} ({count} so far)", D::ID);
        }
        self.take_back_all();
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

    /// What the worker holds, when nothing is pending any more.
    pub(crate) fn save(&mut self) -> Result<WorkerState, SaveError> {
        self.drain();
        self.take_back_all();
        // What was used up to then is the driver's to know, and nobody waits for events now.
        (0..).take(self.rings.len()).for_each(|index: u32| self.called(index ^ CALL));
        // Whoever serves them gets them again when the I/O thread next runs.
        self.ring_all();
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
        // The host must not write into the RAM of the saved machine what this one has asked for.
        self.drain();
        self.device.restore_section(state.device)?;

        self.take_back_all();
        self.rings = rings;
        self.negotiation = negotiation;
        self.generation = state.generation;
        self.device.negotiated(self.negotiation.features());
        self.config = self.device.config().to_vec();
        // Whatever rang while the state was saved is not in it.
        self.ring_all();
        Ok(())
    }

    /// Leaves guest RAM alone from now on, or no longer does. What is pending ends first; what rings
    /// meanwhile is looked at afterwards.
    pub(crate) fn pause(&mut self, paused: bool) {
        if paused {
            self.drain();
            self.take_back_all();
        }
        self.paused = paused;
        if !paused {
            self.ring_all();
        }
    }
}

impl<D: Device> MutEventSubscriber for Worker<D> {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let doorbells = self
            .doorbells
            .iter()
            .zip(0..)
            .map(|(doorbell, index)| Events::with_data(doorbell, index, EventSet::IN));
        let calls = self.offload.iter().flat_map(|events| events.calls.iter().zip(CALL..));
        let calls = calls.map(|(call, index)| Events::with_data(call, index, EventSet::IN));
        let ready = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
        let sources = self.device.sources().into_iter();
        let sources = sources.map(|source| Events::with_data_raw(source, SOURCE, ready));
        for events in doorbells.chain(calls).chain(sources) {
            if let Err(error) = ops.add(events) {
                log::error!("an event of virtio device type {} is lost: {error}", D::ID);
            }
        }
    }

    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        if events.data() == SOURCE {
            if D::ATTENTIVE || self.pending() > 0 {
                self.complete();
            }
            self.heed_server();
            return self.run_stalled();
        }
        let Ok(index) = u16::try_from(events.data()) else { return self.called(events.data()) };
        if let Some(doorbell) = self.doorbells.get(usize::from(index)) {
            // Nothing to read means that it was read already: one turn too many does no harm.
            drop(doorbell.read());
        }
        self.run(index);
    }
}

/// What the events carry by which servers of queues call, beside the number of the queue.
const CALL: u32 = 1 << 16;

/// What the events of sources carry in place of a queue number.
const SOURCE: u32 = u32::MAX;
