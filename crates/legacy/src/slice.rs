//! A device whose registers lie in several claims.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use device::{AccessError, Action, BusDevice, MutBusDevice};

use crate::lock;

/// The part of a device from `first` on, for a claim of its own.
pub(crate) struct Slice<D> {
    device: Arc<Mutex<D>>,
    first: u64,
}

impl<D> Slice<D> {
    pub(crate) fn new(device: &Arc<Mutex<D>>, first: u64) -> Self {
        Self { device: Arc::clone(device), first }
    }
}

impl<D: MutBusDevice> BusDevice for Slice<D> {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        lock(&self.device).read(self.first.saturating_add(offset), data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        lock(&self.device).write(self.first.saturating_add(offset), data)
    }
}

impl<D> fmt::Debug for Slice<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice").field("first", &self.first).finish_non_exhaustive()
    }
}
