//! The event loop of an I/O thread.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use device::{EventFd, EventOps, EventSet, MutEventSubscriber, Subscriber};
use event_manager::{EventManager, SubscriberOps};

/// The subscribers of one I/O thread.
pub(crate) struct Events {
    manager: EventManager<Subscriber>,
}

impl Events {
    pub(crate) fn new() -> Result<Self, event_manager::Error> {
        Ok(Self { manager: EventManager::new()? })
    }

    pub(crate) fn add(&mut self, subscriber: Subscriber) {
        self.manager.add_subscriber(subscriber);
    }

    /// Serves the subscribers until `until` is signalled. Leaves `until` signalled.
    pub(crate) fn serve(&mut self, until: EventFd) -> Result<(), event_manager::Error> {
        let ended = Arc::new(AtomicBool::new(false));
        let end = End { event: until, ended: Arc::clone(&ended) };
        let id = self.manager.add_subscriber(Arc::new(Mutex::new(end)));
        while !ended.load(Ordering::Relaxed) {
            self.manager.run()?;
        }
        self.manager.remove_subscriber(id)?;
        Ok(())
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
