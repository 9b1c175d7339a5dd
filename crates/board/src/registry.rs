//! Who is on the board: what a running machine may still change, shared by all that look at it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use device::{Bdf, Component, Subscriber};

use crate::serve::Inbox;

/// A component, by the name of its device.
pub(crate) type Named = (String, Arc<Mutex<dyn Component>>);

/// The devices by name, and where their parts are.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    names: BTreeSet<String>,
    components: Vec<Named>,
    functions: BTreeMap<Bdf, String>,
    /// How many devices of a name event loops have yet to let go of.
    leaving: BTreeMap<String, usize>,
    /// One for each event loop.
    inboxes: Vec<Arc<Inbox>>,
    /// Which event loop the next device gets.
    turn: usize,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one more event loop.
    pub(crate) fn add_loop(&self, inbox: Arc<Inbox>) {
        self.lock().inboxes.push(inbox);
    }

    /// Takes a name, and gives the number of the event loop that goes with it; `None` if it is taken.
    pub(crate) fn claim(&self, name: &str) -> Option<usize> {
        let mut entries = self.lock();
        if !entries.names.insert(name.to_owned()) {
            return None;
        }
        let turn = entries.turn;
        entries.turn = turn.wrapping_add(1);
        turn.checked_rem(entries.inboxes.len())
    }

    /// Has event loop number `turn` serve `subscriber` as a part of `name`.
    pub(crate) fn poll(&self, turn: usize, name: &str, subscriber: Subscriber) {
        let inbox = self.lock().inboxes.get(turn).cloned();
        if let Some(inbox) = inbox {
            inbox.add(name, subscriber);
        }
    }

    pub(crate) fn persist(&self, name: &str, component: Arc<Mutex<dyn Component>>) {
        self.lock().components.push((name.to_owned(), component));
    }

    /// What is saved and restored, in the order of attaching.
    pub(crate) fn components(&self) -> Vec<Named> {
        self.lock().components.clone()
    }

    pub(crate) fn put_on_bus(&self, name: &str, at: Bdf) {
        self.lock().functions.insert(at, name.to_owned());
    }

    /// Where the device called `name` is on the PCI bus.
    pub(crate) fn on_bus(&self, name: &str) -> Option<Bdf> {
        self.lock().functions.iter().find(|(_, owner)| *owner == name).map(|(at, _)| *at)
    }

    /// Whether the machine has anything of a device called `name` that is, or was, on the PCI bus.
    pub(crate) fn holds(&self, name: &str) -> bool {
        let entries = self.lock();
        entries.leaving.contains_key(name) || entries.functions.values().any(|owner| owner == name)
    }

    /// Forgets a device that was not attached, and all its parts; its name is free again.
    pub(crate) fn forget(&self, name: &str) {
        self.lock().forget(name, None);
    }

    /// Forgets the device that was at `at`, whose name is free again. Event loops let go of it when they
    /// next look.
    pub(crate) fn ejected(self: &Arc<Self>, at: Bdf) {
        // Dropped after the lock, which the last one takes.
        let leaving;
        let mut entries = self.lock();
        let Some(name) = entries.functions.get(&at).cloned() else { return };
        *entries.leaving.entry(name.clone()).or_default() += 1;
        leaving = Arc::new(Leaving { registry: Arc::downgrade(self), name });
        entries.forget(&leaving.name, Some(&leaving));
    }

    fn has_left(&self, name: &str) {
        let mut entries = self.lock();
        if let Some(count) = entries.leaving.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                entries.leaving.remove(name);
            }
        }
    }
}

impl Entries {
    fn forget(&mut self, name: &str, leaving: Option<&Arc<Leaving>>) {
        self.names.remove(name);
        self.functions.retain(|_, owner| owner != name);
        self.components.retain(|(owner, _)| owner != name);
        self.inboxes.iter().for_each(|inbox| inbox.remove(name, leaving.cloned()));
    }
}

/// A device that is no longer on the bus: dropped by the last event loop that lets go of it.
pub(crate) struct Leaving {
    /// Weak, because the registry holds the inboxes, which hold this.
    registry: Weak<Registry>,
    name: String,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.has_left(&self.name);
        }
    }
}
