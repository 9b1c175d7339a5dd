//! The event loops of the I/O threads.

use std::{
    collections::BTreeMap,
    io,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Scope, ScopedJoinHandle},
};

use device::{EventFd, EventOps, EventSet, MutEventSubscriber, Subscriber};
use event_manager::{EventManager, SubscriberId, SubscriberOps};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

use crate::{ServeError, registry::Leaving};

/// Serves all loops, the first on this thread, until `until` is signalled. Whichever fails signals it.
pub(crate) fn all(loops: &mut [Events], until: &EventFd) -> Result<(), ServeError> {
    let Some((first, others)) = loops.split_first_mut() else { return Ok(()) };
    thread::scope(|scope| {
        let threads: Vec<_> = (1_usize..)
            .zip(others)
            .map(|(number, events)| spawn(scope, number, events, until))
            .collect();
        let mut result = one(first, until);
        for thread in threads {
            let ended =
                thread.and_then(|thread| thread.join().unwrap_or_else(|why| resume_unwind(why)));
            result = result.and(ended);
        }
        result
    })
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    number: usize,
    events: &'scope mut Events,
    until: &'scope EventFd,
) -> Result<ScopedJoinHandle<'scope, Result<(), ServeError>>, ServeError> {
    let builder = thread::Builder::new().name(format!("io{number}"));
    let spawned = builder.spawn_scoped(scope, || one(events, until));
    spawned.inspect_err(|_| signal(until)).map_err(ServeError::Thread)
}

fn one(events: &mut Events, until: &EventFd) -> Result<(), ServeError> {
    let _panic = Panic(until);
    let own = until.try_clone().map_err(ServeError::Event);
    let served = own.and_then(|own| Ok(events.serve(own)?));
    served.inspect_err(|_| signal(until))
}

/// A loop that panics takes the others with it.
struct Panic<'a>(&'a EventFd);

impl Drop for Panic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            signal(self.0);
        }
    }
}

/// An event that cannot be written to is signalled already.
fn signal(until: &EventFd) {
    drop(until.write(1));
}

/// The subscribers of one I/O thread.
pub(crate) struct Events {
    manager: EventManager<Subscriber>,
    inbox: Arc<Inbox>,
    /// The subscribers of each device.
    devices: BTreeMap<String, Vec<SubscriberId>>,
}

impl Events {
    pub(crate) fn new() -> Result<Self, ServeError> {
        let mut manager: EventManager<Subscriber> = EventManager::new()?;
        let inbox = Arc::new(Inbox::new().map_err(ServeError::Event)?);
        manager.add_subscriber(Arc::new(Mutex::new(Wake(Arc::clone(&inbox)))));
        Ok(Self { manager, inbox, devices: BTreeMap::new() })
    }

    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Serves the subscribers until `until` is signalled. Leaves `until` signalled.
    fn serve(&mut self, until: EventFd) -> Result<(), event_manager::Error> {
        let ended = Arc::new(AtomicBool::new(false));
        let end = End { event: until, ended: Arc::clone(&ended) };
        let id = self.manager.add_subscriber(Arc::new(Mutex::new(end)));
        while !ended.load(Ordering::Relaxed) {
            self.look_into_inbox();
            self.manager.run()?;
        }
        self.manager.remove_subscriber(id)?;
        Ok(())
    }

    fn look_into_inbox(&mut self) {
        for command in self.inbox.take() {
            match command {
                Command::Add(name, subscriber) => {
                    let id = self.manager.add_subscriber(subscriber);
                    self.devices.entry(name).or_default().push(id);
                }
                // What it carries is dropped when all of them are.
                Command::Remove(name, _leaving) => {
                    for id in self.devices.remove(&name).unwrap_or_default() {
                        // What is not there need not be removed.
                        drop(self.manager.remove_subscriber(id));
                    }
                }
            }
        }
    }
}

/// What others have for an event loop, which alone changes its subscribers.
pub(crate) struct Inbox {
    commands: Mutex<Vec<Command>>,
    event: EventFd,
}

enum Command {
    /// Serve this as a part of the device of that name.
    Add(String, Subscriber),
    /// Let go of the device of that name, and then of this.
    Remove(String, Option<Arc<Leaving>>),
}

impl Inbox {
    fn new() -> io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Self { commands: Mutex::default(), event })
    }

    pub(crate) fn add(&self, name: &str, subscriber: Subscriber) {
        self.put(Command::Add(name.to_owned(), subscriber));
    }

    pub(crate) fn remove(&self, name: &str, leaving: Option<Arc<Leaving>>) {
        self.put(Command::Remove(name.to_owned(), leaving));
    }

    fn put(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        signal(&self.event);
    }

    fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes the loop when something is in its inbox.
struct Wake(Arc<Inbox>);

impl MutEventSubscriber for Wake {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(device::Events::new(&self.0.event, EventSet::IN)) {
            log::error!("devices that come or go later are not noticed: {error}");
        }
    }

    fn process(&mut self, _: device::Events, _: &mut EventOps<'_>) {
        drop(self.0.event.read());
    }
}

/// Ends the loop when its event is signalled.
struct End {
    event: EventFd,
    ended: Arc<AtomicBool>,
}

impl MutEventSubscriber for End {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(device::Events::new(&self.event, EventSet::IN)) {
            // Without it nothing could end the loop.
            log::error!("the end of the machine cannot be waited for: {error}");
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    fn process(&mut self, _: device::Events, _: &mut EventOps<'_>) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
