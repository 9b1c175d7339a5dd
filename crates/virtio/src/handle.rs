//! What the rest of the program has to say to a device in a machine.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Device, worker::Worker};

/// A device that is attached. Clones are handles on the same device.
pub struct Handle<D: Device>(Arc<Mutex<Worker<D>>>);

impl<D: Device> Handle<D> {
    pub(crate) fn new(worker: Arc<Mutex<Worker<D>>>) -> Self {
        Self(worker)
    }

    /// Calls `touch` with the device, from any thread; it waits while the device serves a queue.
    /// Afterwards the driver is told if the configuration has changed, and stalled queues are tried
    /// again.
    pub fn with<R>(&self, touch: impl FnOnce(&mut D) -> R) -> R {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).touch(touch)
    }
}

impl<D: Device> Clone for Handle<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Device> fmt::Debug for Handle<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle(virtio device type {})", D::ID)
    }
}
