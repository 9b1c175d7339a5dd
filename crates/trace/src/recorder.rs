//! The process's recorder: off until enabled, then one ring per thread.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{Event, Kind, ring::Ring};

/// Events that each new ring holds; 0 is off.
static CAPACITY: AtomicUsize = AtomicUsize::new(0);
static RINGS: Mutex<Vec<(String, Arc<Ring>)>> = Mutex::new(Vec::new());
static START: OnceLock<Instant> = OnceLock::new();

thread_local! {
    static RING: RefCell<Option<Arc<Ring>>> = const { RefCell::new(None) };
}

/// What one thread recorded, or several of one name, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// The thread's name.
    pub thread: String,
    /// Its events, oldest first.
    pub events: Vec<Event>,
    /// How many older events were lost because the ring was full.
    pub lost: u64,
}

/// The beginning of something that will be [recorded](record); empty while recording is off.
#[derive(Clone, Copy, Debug)]
pub struct Mark(Option<Instant>);

/// Starts to record, in the whole process. Each thread keeps its last `events` events (40 bytes
/// each), from its first one on; a thread that has a ring already keeps it.
pub fn enable(events: usize) {
    START.get_or_init(Instant::now);
    CAPACITY.store(events.max(1), Ordering::Relaxed);
}

/// Stops to record. What was recorded stays until [`take`].
pub fn disable() {
    CAPACITY.store(0, Ordering::Relaxed);
}

/// Whether anything is recorded: one relaxed load.
#[inline]
pub fn enabled() -> bool {
    CAPACITY.load(Ordering::Relaxed) != 0
}

/// Marks the beginning of something.
#[inline]
pub fn mark() -> Mark {
    Mark(enabled().then(Instant::now))
}

/// Records that something of `kind` has ended that began at `since`. Does nothing if recording was
/// off at either end.
#[inline]
pub fn record(kind: Kind, value: u64, since: Mark) {
    if let Some(since) = since.0 {
        push(kind, value, since);
    }
}

#[cold]
fn push(kind: Kind, value: u64, since: Instant) {
    let (Some(start), true) = (START.get(), enabled()) else { return };
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let event = Event {
        kind,
        at: nanos(since.saturating_duration_since(*start)),
        took: nanos(since.elapsed()),
        value,
    };
    RING.with_borrow_mut(|ring| ring.get_or_insert_with(register).push(&event));
}

/// The calling thread's ring: that of a thread of the same name that has ended, or a new one. So a
/// guest that reboots for ever, on new threads each time, does not pile up rings.
fn register() -> Arc<Ring> {
    let capacity = CAPACITY.load(Ordering::Relaxed).max(1);
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
    for (owner, ring) in rings.iter_mut() {
        // Nobody else holds it: its thread has ended, and all that it wrote is seen.
        if owner == name && Arc::get_mut(ring).is_some_and(|ring| ring.capacity() == capacity) {
            return Arc::clone(ring);
        }
    }
    let ring = Arc::new(Ring::new(capacity));
    rings.push((name.to_owned(), Arc::clone(&ring)));
    ring
}

/// Takes what all threads recorded since the last call, in the order in which they began to record.
/// The rings of threads that have ended are given up.
pub fn take() -> Vec<Track> {
    let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let tracks = rings.iter().map(|(thread, ring)| {
        let (events, lost) = ring.take();
        Track { thread: thread.clone(), events, lost }
    });
    let tracks = tracks.collect();
    rings.retain(|(_, ring)| Arc::strong_count(ring) > 1);
    tracks
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test: the recorder is the process's.
    #[test]
    fn only_what_happens_while_enabled_is_recorded_by_thread_name() {
        record(Kind::Device, 1, mark());
        enable(16);
        let work = || record(Kind::Device, 2, mark());
        std::thread::Builder::new().name("io0".to_owned()).spawn(work).unwrap().join().unwrap();
        std::thread::Builder::new().name("io0".to_owned()).spawn(work).unwrap().join().unwrap();
        disable();
        record(Kind::Device, 3, mark());

        let tracks = take();
        let io0: Vec<&Track> = tracks.iter().filter(|track| track.thread == "io0").collect();
        let values: Vec<u64> = tracks.iter().flat_map(|t| &t.events).map(|e| e.value).collect();
        assert_eq!((io0.len(), values), (1, vec![2, 2]));
        assert!(take().is_empty(), "the ring of an ended thread is given up");
    }
}
