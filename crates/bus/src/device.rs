//! How a bus reaches a device.

use std::sync::{Mutex, PoisonError};

/// What a write may ask of the machine, beside what it does to the device.
///
/// It reaches the run loop in the return value, so that the instruction after the write never runs
/// when the machine has to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Nothing: the guest runs on.
    #[default]
    Continue,
    /// The guest asked for a reset (keyboard controller, ACPI reset register).
    Reset,
    /// The guest asked for power off (ACPI S5).
    PowerOff,
    /// The guest's kernel reports that it has crashed (pvpanic).
    Panic,
    /// The guest ends the run with a code of its own (isa-debug-exit).
    Exit(u8),
}

/// Why a device refused an access. The bus answers the guest in the device's place: reads keep
/// `0xff`, writes are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// No register at this offset, or none for this direction.
    #[error("no register at this offset")]
    NoRegister,
    /// The register exists but not at this width.
    #[error("the register cannot be accessed at this width")]
    Width,
    /// The access is not aligned to its width.
    #[error("the access is not aligned to its width")]
    Misaligned,
}

/// A device as its bus sees it: reads and writes by *offset* from the start of its range.
///
/// `data` has 1 to 8 bytes, little endian, and lies whole inside the claimed range. Calls come from
/// vCPU threads, several at a time. Most devices implement [`MutBusDevice`] and are shared as
/// `Arc<Mutex<_>>`.
pub trait BusDevice: Send + Sync {
    /// Fills `data`, which holds `0xff` in every byte.
    ///
    /// # Errors
    /// The device has nothing to say there; `data` then stays `0xff`.
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError>;

    /// Takes `data`, and says what the machine has to do.
    ///
    /// # Errors
    /// The device has nothing to take it; the write is dropped.
    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError>;
}

/// [`BusDevice`] on `&mut self`: what nearly every device implements. A `Mutex` around it is a
/// [`BusDevice`].
pub trait MutBusDevice: Send {
    /// See [`BusDevice::read`].
    ///
    /// # Errors
    /// See [`BusDevice::read`].
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError>;

    /// See [`BusDevice::write`].
    ///
    /// # Errors
    /// See [`BusDevice::write`].
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError>;
}

impl<D: MutBusDevice + ?Sized> BusDevice for Mutex<D> {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data)
    }
}
