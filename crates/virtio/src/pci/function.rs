//! The function on the bus.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use device::{
    AccessError, Action, Bar, BarDoorbell, Capability, EventFd, Identity, Intx, IrqLine,
    MsixLayout, PciFunction, Persist, RestoreError, SaveError, Versioned,
};

use super::{
    common::Common,
    layout::{BAR, Layout, NOTIFY_STEP, Structure},
    vectors::{Chosen, Vectors},
};
use crate::{Device, setup::Setup, state::PciState};

/// One device as the bus has it. ISR status and notification take no lock; the rest takes the
/// worker's.
pub(super) struct Function<D: Device> {
    identity: Identity,
    layout: Layout,
    setup: Setup<D>,
    vectors: Arc<Vectors>,
    doorbells: Vec<Arc<EventFd>>,
}

impl<D: Device> Function<D> {
    pub(super) fn new(
        (identity, layout): (Identity, Layout),
        setup: Setup<D>,
        vectors: Arc<Vectors>,
        doorbells: Vec<Arc<EventFd>>,
    ) -> Self {
        Self { identity, layout, setup, vectors, doorbells }
    }

    fn common(&self) -> Common<'_, D> {
        Common { setup: &self.setup, vectors: &self.vectors }
    }

    fn find(&self, offset: u64, len: usize) -> Result<(Structure, u64), AccessError> {
        self.layout.find(offset, len).ok_or(AccessError::NoRegister)
    }
}

impl<D: Device> PciFunction for Function<D> {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn bars(&self) -> Vec<Bar> {
        vec![self.layout.bar()]
    }

    fn capabilities(&self) -> Vec<Capability> {
        self.layout.capabilities()
    }

    fn msix(&self) -> Option<MsixLayout> {
        Some(self.layout.msix())
    }

    fn doorbells(&self) -> Vec<BarDoorbell> {
        let doorbell = |(queue, event): (u16, &Arc<EventFd>)| BarDoorbell {
            bar: BAR,
            offset: self.layout.doorbell(queue),
            event: Arc::clone(event),
        };
        (0..).zip(&self.doorbells).map(doorbell).collect()
    }

    fn intx(&self) -> Option<Intx> {
        Some(self.vectors.intx())
    }

    fn connect(&self, lines: Vec<IrqLine>) {
        self.vectors.connect(lines);
    }

    fn bus_master(&self, on: bool) {
        self.setup.worker().pause(!on);
    }

    fn bar_read(&self, _: u8, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let (structure, offset) = self.find(offset, data.len())?;
        match (structure, data) {
            (Structure::Common, data) => self.common().read(offset, data),
            (Structure::Isr, [status]) => {
                [*status, ..] = self.vectors.take_isr().to_le_bytes();
                Ok(())
            }
            (Structure::Isr, _) => Err(AccessError::Width),
            (Structure::Notify, _) => Err(AccessError::NoRegister),
            (Structure::Device, data) => {
                let offset = usize::try_from(offset).map_err(|_| AccessError::NoRegister)?;
                self.setup.worker().read_config(offset, data).ok_or(AccessError::NoRegister)
            }
        }
    }

    fn bar_write(&self, _: u8, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        let (structure, offset) = self.find(offset, data.len())?;
        match structure {
            Structure::Common => self.common().write(offset, data)?,
            // It is for reading.
            Structure::Isr => {}
            // Its place says which queue is meant, as it does where the host signals by itself.
            Structure::Notify => {
                let step = u64::from(NOTIFY_STEP);
                if !offset.is_multiple_of(step) {
                    return Err(AccessError::Misaligned);
                }
                self.setup.notify(u32::try_from(offset / step).unwrap_or(u32::MAX));
            }
            Structure::Device => {
                let offset = usize::try_from(offset).map_err(|_| AccessError::NoRegister)?;
                let written = self.setup.worker().write_config(offset, data);
                written.ok_or(AccessError::NoRegister)?;
            }
        }
        Ok(Action::Continue)
    }
}

impl<D: Device> fmt::Debug for Function<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// The function as a part of a snapshot, without what the bus saves of it: configuration space and
/// MSI-X table, which must be restored before.
pub(super) struct Saved<D: Device>(pub(super) Arc<Function<D>>);

impl<D: Device> Persist for Saved<D> {
    type State = PciState;

    fn save(&mut self) -> Result<PciState, SaveError> {
        let Self(function) = self;
        let Function { setup, vectors, .. } = &**function;
        let worker = setup.worker().save()?;
        let Chosen { isr, config, queues } = vectors.save();
        Ok(PciState {
            device_features_sel: setup.device_features_sel.load(Relaxed),
            driver_features_sel: setup.driver_features_sel.load(Relaxed),
            queue_sel: setup.queue_sel.load(Relaxed),
            isr,
            config_vector: config,
            queue_vectors: queues,
            worker,
        })
    }

    fn restore(&mut self, state: PciState) -> Result<(), RestoreError> {
        let Self(function) = self;
        let Function { setup, vectors, .. } = &**function;
        let kind = PciState::KIND;
        let chosen =
            Chosen { isr: state.isr, config: state.config_vector, queues: state.queue_vectors };
        let invalid = |why| RestoreError::Invalid { kind, why };
        vectors.check(&chosen).map_err(invalid)?;
        if state.queue_sel > u16::MAX.into() {
            let why = format!("queue selector {:#x}; it has 16 bits", state.queue_sel);
            return Err(invalid(why));
        }
        setup.worker().restore(kind, state.worker)?;
        setup.device_features_sel.store(state.device_features_sel, Relaxed);
        setup.driver_features_sel.store(state.driver_features_sel, Relaxed);
        setup.queue_sel.store(state.queue_sel, Relaxed);
        vectors.restore(&chosen);
        Ok(())
    }
}
