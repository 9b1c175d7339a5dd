//! The board of a running machine.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use arch::Node;
use bus::Buses;
use device::{Component, EventFd, RestoreError, SaveError};
use snapshot::Snapshot;

use crate::{
    Hotplug,
    registry::Registry,
    serve::{self, Events},
};

/// The devices of a machine: what vCPUs reach, what firmware describes, what an I/O thread serves
/// and what a snapshot holds.
pub struct Board {
    /// The routing tables, for the vCPUs.
    pub buses: Arc<Buses>,
    /// What firmware has to describe, in the order of attaching.
    pub nodes: Vec<Node>,
    events: Vec<Events>,
    registry: Arc<Registry>,
    hotplug: Option<Hotplug>,
}

/// Why the devices are no longer served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The event that ends the loop cannot be shared.
    #[error("the event that ends the event loop cannot be duplicated")]
    Event(#[source] io::Error),
    /// The host gives no thread.
    #[error("the host gives no thread for the devices")]
    Thread(#[source] io::Error),
    /// The event loop failed.
    #[error("the event loop of the devices failed")]
    Loop(#[from] event_manager::Error),
}

impl Board {
    pub(crate) fn new(
        buses: Buses,
        nodes: Vec<Node>,
        events: Vec<Events>,
        (registry, hotplug): (Arc<Registry>, Option<Hotplug>),
    ) -> Self {
        Self { buses: Arc::new(buses), nodes, events, registry, hotplug }
    }

    /// What attaches devices to the machine while it runs; `None` without a PCI bus.
    pub fn hotplug(&self) -> Option<Hotplug> {
        self.hotplug.clone()
    }

    /// Serves every device until `until` is signalled, which is left as it is: on this thread, and on
    /// one more for each further event loop ([`BoardBuilder::io_threads`](crate::BoardBuilder)).
    ///
    /// # Errors
    /// The host's event loop fails, or the host gives no thread. `until` is signalled then, so that
    /// all loops end.
    pub fn serve(&mut self, until: &EventFd) -> Result<(), ServeError> {
        serve::all(&mut self.events, until)
    }

    /// Adds the state of every device to `into`, by the names they were attached under. No vCPU may
    /// be running, and nobody else be serving.
    ///
    /// # Errors
    /// A device's state cannot be read.
    pub fn save(&mut self, into: &mut Snapshot) -> Result<(), SaveError> {
        for (name, component) in self.registry.components() {
            let section = lock(&component).save_section()?;
            into.put(&name, section);
        }
        Ok(())
    }

    /// Gives every device its state out of `from`. What is left there belongs to other parts. Devices
    /// raise again what is pending, so the machine and its vCPUs must be restored before.
    ///
    /// # Errors
    /// A device's section is missing or refused; the devices before it are restored already.
    pub fn restore(&mut self, from: &mut Snapshot) -> Result<(), RestoreError> {
        for (name, component) in self.registry.components() {
            lock(&component).restore_section(from.take(&name)?)?;
        }
        Ok(())
    }
}

fn lock<'a>(
    component: &'a Arc<Mutex<dyn Component>>,
) -> std::sync::MutexGuard<'a, dyn Component + 'static> {
    component.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board")
            .field("buses", &self.buses)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}
