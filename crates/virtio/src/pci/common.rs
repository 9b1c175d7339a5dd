//! The common configuration structure (virtio 1.3 §4.1.4.3).

use std::sync::atomic::Ordering::Relaxed;

use device::AccessError;

use super::vectors::Vectors;
use crate::{
    Device, feature,
    setup::{Area, Setup},
};

const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: u64 = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_MSIX_VECTOR: u64 = 0x10;
const NUM_QUEUES: u64 = 0x12;
const DEVICE_STATUS: u64 = 0x14;
const CONFIG_GENERATION: u64 = 0x15;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_MSIX_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFF: u64 = 0x1e;
const QUEUE_DESC: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;
const QUEUE_NOTIF_CONFIG_DATA: u64 = 0x38;
const QUEUE_RESET: u64 = 0x3a;
const ADMIN_QUEUE_INDEX: u64 = 0x3c;
const ADMIN_QUEUE_NUM: u64 = 0x3e;
const HALF: u64 = 4;

/// The registers of the structure, as one access sees them.
pub(super) struct Common<'a, D: Device> {
    pub(super) setup: &'a Setup<D>,
    pub(super) vectors: &'a Vectors,
}

impl<D: Device> Common<'_, D> {
    /// Reads one field. Each is read and written whole, in its own width; those of 64 bits in halves
    /// (virtio 1.3 §4.1.3.1).
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        check(offset, data.len())?;
        let value = self.register(offset)?.to_le_bytes();
        data.copy_from_slice(value.get(..data.len()).ok_or(AccessError::Width)?);
        Ok(())
    }

    /// Writes one field; one that is for reading only stays as it is.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        check(offset, data.len())?;
        let byte = |index| data.get(index).copied().unwrap_or(0);
        let value = u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]);
        self.set_register(offset, value)
    }

    fn register(&self, offset: u64) -> Result<u32, AccessError> {
        let Self { setup, vectors } = self;
        Ok(match offset {
            DEVICE_FEATURE_SELECT => setup.device_features_sel.load(Relaxed),
            DEVICE_FEATURE => setup.offered(),
            DRIVER_FEATURE_SELECT => setup.driver_features_sel.load(Relaxed),
            DRIVER_FEATURE => setup.accepted(),
            CONFIG_MSIX_VECTOR => vectors.config_vector().into(),
            NUM_QUEUES => u32::try_from(setup.worker().queues()).unwrap_or(0),
            DEVICE_STATUS => setup.worker().negotiation().status().into(),
            CONFIG_GENERATION => setup.worker().generation(),
            QUEUE_SELECT => setup.queue(),
            QUEUE_SIZE => setup.ring(|ring| ring.size),
            QUEUE_MSIX_VECTOR => vectors.queue_vector(setup.queue()).into(),
            QUEUE_ENABLE => setup.ring(|ring| ring.is_ready().into()),
            // Each queue has a doorbell of its own, in their order.
            QUEUE_NOTIFY_OFF => setup.ring(|_| setup.queue()),
            // A reset is over when its write is. There is no administration queue, and what a
            // notification holds is not looked at.
            QUEUE_NOTIF_CONFIG_DATA | QUEUE_RESET | ADMIN_QUEUE_INDEX | ADMIN_QUEUE_NUM => 0,
            _ => {
                let (area, half) = area(offset).ok_or(AccessError::NoRegister)?;
                setup.half(area, half)
            }
        })
    }

    fn set_register(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        let Self { setup, vectors } = self;
        let [low, high, ..] = value.to_le_bytes();
        let short = u16::from_le_bytes([low, high]);
        match offset {
            DEVICE_FEATURE_SELECT => setup.device_features_sel.store(value, Relaxed),
            DRIVER_FEATURE_SELECT => setup.driver_features_sel.store(value, Relaxed),
            DRIVER_FEATURE => setup.accept(value),
            CONFIG_MSIX_VECTOR => vectors.choose_config(short),
            DEVICE_STATUS => setup.set_status(low),
            QUEUE_SELECT => setup.queue_sel.store(value, Relaxed),
            QUEUE_SIZE => setup.set_size(value),
            QUEUE_MSIX_VECTOR => vectors.choose_queue(setup.queue(), short),
            // A driver must not write anything but 1 to these two.
            QUEUE_ENABLE if value == 1 => setup.worker().enable(setup.queue()),
            QUEUE_RESET if value == 1 => self.reset_queue(),
            _ => {
                if let Some((area, half)) = area(offset) {
                    setup.set_half(area, half, value);
                }
            }
        }
        Ok(())
    }

    /// The queue's vector goes with the rest of what the driver said of it.
    fn reset_queue(&self) {
        let Self { setup, vectors } = self;
        let mut worker = setup.worker();
        worker.reset_ring(setup.queue());
        if worker.negotiation().features() & feature::RING_RESET != 0 {
            vectors.choose_queue(setup.queue(), super::vectors::NO_VECTOR);
        }
    }
}

/// Which half of which address of a queue is at `offset`.
fn area(offset: u64) -> Option<(Area, u32)> {
    Some(match offset {
        QUEUE_DESC => (Area::Descriptors, 0),
        _ if offset == QUEUE_DESC + HALF => (Area::Descriptors, 1),
        QUEUE_DRIVER => (Area::Driver, 0),
        _ if offset == QUEUE_DRIVER + HALF => (Area::Driver, 1),
        QUEUE_DEVICE => (Area::Device, 0),
        _ if offset == QUEUE_DEVICE + HALF => (Area::Device, 1),
        _ => return None,
    })
}

/// Whether an access of `len` bytes at `offset` is one whole field, or half of one of 64 bits.
fn check(offset: u64, len: usize) -> Result<(), AccessError> {
    let (width, first) = match offset {
        DEVICE_STATUS | CONFIG_GENERATION => (1, offset),
        CONFIG_MSIX_VECTOR..DEVICE_STATUS | QUEUE_SELECT..QUEUE_DESC => (2, offset & !1),
        QUEUE_NOTIF_CONFIG_DATA.. => (2, offset & !1),
        _ => (4, offset & !3),
    };
    match (first == offset, width == len) {
        (true, true) => Ok(()),
        (false, true) => Err(AccessError::Misaligned),
        (_, false) => Err(AccessError::Width),
    }
}
