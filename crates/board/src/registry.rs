//! Who is on the board: what a running machine may still change, shared by all that look at it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

    /// Forgets a device and all its parts; its name is free again.
    pub(crate) fn forget(&self, name: &str) {
        let mut entries = self.lock();
        entries.names.remove(name);
        entries.functions.retain(|_, owner| owner != name);
        entries.components.retain(|(owner, _)| owner != name);
        entries.inboxes.iter().for_each(|inbox| inbox.remove(name));
    }

    /// Forgets the device that was at `at`.
    pub(crate) fn ejected(&self, at: Bdf) {
        let name = self.lock().functions.get(&at).cloned();
        if let Some(name) = name {
            self.forget(&name);
        }
    }
}
