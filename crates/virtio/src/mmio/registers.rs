//! The registers (virtio 1.3 §4.2.2).

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use device::{
    AccessError, Action, BusDevice, EventFd, Persist, RestoreError, SaveError, Versioned,
};

use crate::{
    Device,
    interrupt::{self, StatusLine},
    ring::Ring,
    state::MmioState,
    worker::Worker,
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
    worker: Arc<Mutex<Worker<D>>>,
    interrupt: Arc<StatusLine>,
    doorbells: Vec<EventFd>,
    device_features_sel: AtomicU32,
    driver_features_sel: AtomicU32,
    queue_sel: AtomicU32,
}

impl<D: Device> Registers<D> {
    pub(super) fn new(
        worker: Arc<Mutex<Worker<D>>>,
        interrupt: Arc<StatusLine>,
        doorbells: Vec<EventFd>,
    ) -> Self {
        Self {
            worker,
            interrupt,
            doorbells,
            device_features_sel: AtomicU32::new(0),
            driver_features_sel: AtomicU32::new(0),
            queue_sel: AtomicU32::new(0),
        }
    }

    fn worker(&self) -> MutexGuard<'_, Worker<D>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_sel(&self) -> u32 {
        self.queue_sel.load(Relaxed)
    }

    fn register(&self, offset: u64) -> Result<u32, AccessError> {
        let ready = |ring: &Ring| ring.is_ready().into();
        let max = |ring: &Ring| ring.max_size().into();
        Ok(match offset {
            MAGIC => MAGIC_VALUE,
            VERSION => 2,
            DEVICE_ID => D::ID,
            VENDOR_ID => VENDOR,
            DEVICE_FEATURES => {
                let offered = self.worker().negotiation().offered();
                word(offered, self.device_features_sel.load(Relaxed))
            }
            QUEUE_SIZE_MAX => self.worker().ring(self.queue_sel()).map_or(0, max),
            QUEUE_READY => self.worker().ring(self.queue_sel()).map_or(0, ready),
            INTERRUPT_STATUS => self.interrupt.bits(),
            STATUS => self.worker().negotiation().status().into(),
            // No shared memory: a length and a base of all ones say that there is none.
            SHM_LEN_LOW..=SHM_BASE_HIGH => u32::MAX,
            // A reset is over when its write is.
            QUEUE_RESET => 0,
            CONFIG_GENERATION => self.worker().generation(),
            _ => return Err(AccessError::NoRegister),
        })
    }

    fn set_register(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        match offset {
            DEVICE_FEATURES_SEL => self.device_features_sel.store(value, Relaxed),
            DRIVER_FEATURES => {
                self.worker().accept(self.driver_features_sel.load(Relaxed), value);
            }
            DRIVER_FEATURES_SEL => self.driver_features_sel.store(value, Relaxed),
            QUEUE_SEL => self.queue_sel.store(value, Relaxed),
            NOTIFY => self.notify(value),
            INTERRUPT_ACK => self.interrupt.acknowledge(value),
            STATUS => self.set_status(value),
            SHM_SEL => {}
            _ => return self.set_queue(offset, value),
        }
        Ok(())
    }

    fn set_queue(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        let mut worker = self.worker();
        let queue = self.queue_sel();
        match (offset, value) {
            (QUEUE_READY, 0) => worker.disable(queue),
            (QUEUE_READY, _) => worker.enable(queue),
            (QUEUE_RESET, 1) => worker.reset_ring(queue),
            (QUEUE_RESET, _) => {}
            _ => return set_ring(worker.ring_to_set(queue), offset, value),
        }
        Ok(())
    }

    fn set_status(&self, value: u32) {
        // The field has 8 bits; the rest of the register is nobody's.
        let [value, ..] = value.to_le_bytes();
        self.worker().write_status(value);
        if value == 0 {
            let selectors = [&self.device_features_sel, &self.driver_features_sel, &self.queue_sel];
            selectors.into_iter().for_each(|selector| selector.store(0, Relaxed));
        }
    }

    /// Where the host signals doorbells by itself, only numbers without a queue come here.
    fn notify(&self, queue: u32) {
        if let Some(doorbell) = usize::try_from(queue).ok().and_then(|at| self.doorbells.get(at)) {
            // What cannot be counted further has been signalled already.
            drop(doorbell.write(1));
        }
    }
}

/// Sets what the driver says of a queue; dropped (`None`) unless the queue can be set up now.
fn set_ring(ring: Option<&mut Ring>, offset: u64, value: u32) -> Result<(), AccessError> {
    let known = offset == QUEUE_SIZE
        || matches!(
            offset,
            QUEUE_DESC_LOW
                | QUEUE_DESC_HIGH
                | QUEUE_DRIVER_LOW
                | QUEUE_DRIVER_HIGH
                | QUEUE_DEVICE_LOW
                | QUEUE_DEVICE_HIGH
        );
    let ring = match ring {
        _ if !known => return Err(AccessError::NoRegister),
        None => return Ok(()),
        Some(ring) => ring,
    };
    match offset {
        QUEUE_SIZE => ring.size = value,
        QUEUE_DESC_LOW => set_word(&mut ring.descriptors, 0, value),
        QUEUE_DESC_HIGH => set_word(&mut ring.descriptors, 1, value),
        QUEUE_DRIVER_LOW => set_word(&mut ring.driver, 0, value),
        QUEUE_DRIVER_HIGH => set_word(&mut ring.driver, 1, value),
        QUEUE_DEVICE_LOW => set_word(&mut ring.device, 0, value),
        _ => set_word(&mut ring.device, 1, value),
    }
    Ok(())
}

/// Word number `index` of a 64-bit value, least significant first; 0 beyond.
fn word(value: u64, index: u32) -> u32 {
    let shifted = index.checked_mul(32).and_then(|bits| value.checked_shr(bits)).unwrap_or(0);
    u32::try_from(shifted & u64::from(u32::MAX)).unwrap_or(0)
}

fn set_word(value: &mut u64, index: u32, word: u32) {
    let shift = 32 * index;
    *value = *value & !(u64::from(u32::MAX) << shift) | u64::from(word) << shift;
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
            return self.worker().read_config(offset, data).ok_or(AccessError::NoRegister);
        }
        check(offset, data.len())?;
        data.copy_from_slice(&self.register(offset)?.to_le_bytes());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        if let Some(offset) = config_offset(offset) {
            let written = self.worker().write_config(offset, data);
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
            device_features_sel: registers.device_features_sel.load(Relaxed),
            driver_features_sel: registers.driver_features_sel.load(Relaxed),
            queue_sel: registers.queue_sel.load(Relaxed),
            worker: registers.worker().save()?,
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
        registers.worker().restore(kind, state.worker)?;
        registers.device_features_sel.store(state.device_features_sel, Relaxed);
        registers.driver_features_sel.store(state.driver_features_sel, Relaxed);
        registers.queue_sel.store(state.queue_sel, Relaxed);
        registers.interrupt.restore(state.interrupt);
        Ok(())
    }
}
