//! The registers (virtio 1.3 §4.2.2).

use std::sync::{Arc, atomic::Ordering::Relaxed};

use device::{AccessError, Action, BusDevice, Persist, RestoreError, SaveError, Versioned};

use crate::{
    Device,
    interrupt::{self, StatusLine},
    setup::{Area, Setup},
    state::MmioState,
};

const MAGIC: u64 = 0x000;
const VERSION: u64 = 0x004;
const DEVICE_ID: u64 = 0x008;
const VENDOR_ID: u64 = 0x00c;
const DEVICE_FEATURES: u64 = 0x010;
const DEVICE_FEATURES_SEL: u64 = 0x014;
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SEL: u64 = 0x024;
const QUEUE_SEL: u64 = 0x030;
const QUEUE_SIZE_MAX: u64 = 0x034;
const QUEUE_SIZE: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
pub(super) const NOTIFY: u64 = 0x050;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACK: u64 = 0x064;
const STATUS: u64 = 0x070;
const QUEUE_DESC_LOW: u64 = 0x080;
const QUEUE_DESC_HIGH: u64 = 0x084;
const QUEUE_DRIVER_LOW: u64 = 0x090;
const QUEUE_DRIVER_HIGH: u64 = 0x094;
const QUEUE_DEVICE_LOW: u64 = 0x0a0;
const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
const SHM_SEL: u64 = 0x0ac;
const SHM_LEN_LOW: u64 = 0x0b0;
const SHM_BASE_HIGH: u64 = 0x0bc;
const QUEUE_RESET: u64 = 0x0c0;
const CONFIG_GENERATION: u64 = 0x0fc;
pub(super) const CONFIG: u64 = 0x100;

/// "virt", little endian.
const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"virt");
/// "PRLN", little endian.
const VENDOR: u32 = u32::from_le_bytes(*b"PRLN");

/// The registers of one device. Interrupt status and notification take no lock; the rest takes the
/// worker's.
pub(super) struct Registers<D: Device> {
    setup: Setup<D>,
    interrupt: Arc<StatusLine>,
}

impl<D: Device> Registers<D> {
    pub(super) fn new(setup: Setup<D>, interrupt: Arc<StatusLine>) -> Self {
        Self { setup, interrupt }
    }

    fn register(&self, offset: u64) -> Result<u32, AccessError> {
        let setup = &self.setup;
        Ok(match offset {
            MAGIC => MAGIC_VALUE,
            VERSION => 2,
            DEVICE_ID => D::ID,
            VENDOR_ID => VENDOR,
            DEVICE_FEATURES => setup.offered(),
            QUEUE_SIZE_MAX => setup.ring(|ring| ring.max_size().into()),
            QUEUE_READY => setup.ring(|ring| ring.is_ready().into()),
            INTERRUPT_STATUS => self.interrupt.bits(),
            STATUS => setup.worker().negotiation().status().into(),
            // No shared memory: a length and a base of all ones say that there is none.
            SHM_LEN_LOW..=SHM_BASE_HIGH => u32::MAX,
            // A reset is over when its write is.
            QUEUE_RESET => 0,
            CONFIG_GENERATION => setup.worker().generation(),
            _ => return Err(AccessError::NoRegister),
        })
    }

    fn set_register(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        let setup = &self.setup;
        match offset {
            DEVICE_FEATURES_SEL => setup.device_features_sel.store(value, Relaxed),
            DRIVER_FEATURES => setup.accept(value),
            DRIVER_FEATURES_SEL => setup.driver_features_sel.store(value, Relaxed),
            QUEUE_SEL => setup.queue_sel.store(value, Relaxed),
            NOTIFY => setup.notify(value),
            INTERRUPT_ACK => self.interrupt.acknowledge(value),
            STATUS => {
                // The field has 8 bits; the rest of the register is nobody's.
                let [status, ..] = value.to_le_bytes();
                setup.set_status(status);
            }
            SHM_SEL => {}
            _ => return self.set_queue(offset, value),
        }
        Ok(())
    }

    fn set_queue(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        let setup = &self.setup;
        match (offset, value) {
            (QUEUE_READY, 0) => setup.worker().disable(setup.queue()),
            (QUEUE_READY, _) => setup.worker().enable(setup.queue()),
            (QUEUE_RESET, 1) => setup.worker().reset_ring(setup.queue()),
            (QUEUE_RESET, _) => {}
            (QUEUE_SIZE, size) => setup.set_size(size),
            (QUEUE_DESC_LOW, low) => setup.set_half(Area::Descriptors, 0, low),
            (QUEUE_DESC_HIGH, high) => setup.set_half(Area::Descriptors, 1, high),
            (QUEUE_DRIVER_LOW, low) => setup.set_half(Area::Driver, 0, low),
            (QUEUE_DRIVER_HIGH, high) => setup.set_half(Area::Driver, 1, high),
            (QUEUE_DEVICE_LOW, low) => setup.set_half(Area::Device, 0, low),
            (QUEUE_DEVICE_HIGH, high) => setup.set_half(Area::Device, 1, high),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }
}

/// Registers are read and written whole (virtio 1.3 §4.2.2.2).
fn check(offset: u64, len: usize) -> Result<(), AccessError> {
    match (offset.is_multiple_of(4), len) {
        (true, 4) => Ok(()),
        (false, 4) => Err(AccessError::Misaligned),
        _ => Err(AccessError::Width),
    }
}

fn config_offset(offset: u64) -> Option<usize> {
    usize::try_from(offset.checked_sub(CONFIG)?).ok()
}

impl<D: Device> BusDevice for Registers<D> {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        if let Some(offset) = config_offset(offset) {
            return self.setup.worker().read_config(offset, data).ok_or(AccessError::NoRegister);
        }
        check(offset, data.len())?;
        data.copy_from_slice(&self.register(offset)?.to_le_bytes());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        if let Some(offset) = config_offset(offset) {
            let written = self.setup.worker().write_config(offset, data);
            return written.map(|()| Action::Continue).ok_or(AccessError::NoRegister);
        }
        check(offset, data.len())?;
        let value = data.try_into().map_err(|_| AccessError::Width)?;
        self.set_register(offset, u32::from_le_bytes(value))?;
        Ok(Action::Continue)
    }
}

/// The registers as a part of a snapshot.
pub(super) struct Saved<D: Device>(pub(super) Arc<Registers<D>>);

impl<D: Device> Persist for Saved<D> {
    type State = MmioState;

    fn save(&mut self) -> Result<MmioState, SaveError> {
        let Self(registers) = self;
        Ok(MmioState {
            device_features_sel: registers.setup.device_features_sel.load(Relaxed),
            driver_features_sel: registers.setup.driver_features_sel.load(Relaxed),
            queue_sel: registers.setup.queue_sel.load(Relaxed),
            worker: registers.setup.worker().save()?,
            interrupt: registers.interrupt.bits(),
        })
    }

    fn restore(&mut self, state: MmioState) -> Result<(), RestoreError> {
        let Self(registers) = self;
        let kind = MmioState::KIND;
        if state.interrupt & !(interrupt::USED | interrupt::CONFIG) != 0 {
            let why = format!("interrupt status {:#x}; it has bits 0 and 1", state.interrupt);
            return Err(RestoreError::Invalid { kind, why });
        }
        registers.setup.worker().restore(kind, state.worker)?;
        registers.setup.device_features_sel.store(state.device_features_sel, Relaxed);
        registers.setup.driver_features_sel.store(state.driver_features_sel, Relaxed);
        registers.setup.queue_sel.store(state.queue_sel, Relaxed);
        registers.interrupt.restore(state.interrupt);
        Ok(())
    }
}
