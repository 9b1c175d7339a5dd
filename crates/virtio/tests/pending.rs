//! Chains that a device keeps and ends later.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, Mutex},
};

use device::{EventFd, Persist, RestoreError, SaveError, Versioned};
use memory::{Bytes, GuestAddress};
use purlin_virtio::{
    Chain, Device, Handle, Pending, Served,
    conformance::{self, BUFFERS, Driver, Register},
    feature, mmio, pci,
};
use serde::{Deserialize, Serialize};

/// A chain of 4 bytes for the device and 4 of room.
const REQUEST: [(u64, u32, bool); 2] = [(BUFFERS, 4, false), (BUFFERS + 0x100, 4, true)];

/// Answers each request with its own bytes, as soon as the host lets it: the one that came last first.
struct Slow {
    /// How many may be ended.
    allowed: EventFd,
    kept: Vec<(u16, u16)>,
    starts: Arc<Mutex<u32>>,
    /// How many bytes it says that it has written beyond those it has.
    lies: u32,
}

impl Slow {
    /// `allowed` requests may end from the start.
    fn new(allowed: u64) -> Self {
        let event = EventFd::new(flags()).unwrap();
        if allowed > 0 {
            event.write(allowed).unwrap();
        }
        Self { allowed: event, kept: Vec::new(), starts: Arc::default(), lies: 0 }
    }

    fn answer(chain: &mut Chain<'_>) -> u32 {
        let mut bytes = Vec::new();
        chain.reader.read_to_end(&mut bytes).unwrap();
        u32::try_from(chain.writer.write(&bytes).unwrap()).unwrap()
    }
}

/// Non-blocking, and each read takes one of the count.
fn flags() -> i32 {
    const NONBLOCK: i32 = 0o4000;
    const SEMAPHORE: i32 = 1;
    NONBLOCK | SEMAPHORE
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowState {}

impl Versioned for SlowState {
    const KIND: &'static str = "test.slow";
    const VERSION: u32 = 1;
}

impl Persist for Slow {
    type State = SlowState;

    fn save(&mut self) -> Result<SlowState, SaveError> {
        assert!(self.kept.is_empty(), "saved with requests in flight");
        Ok(SlowState {})
    }

    fn restore(&mut self, _: SlowState) -> Result<(), RestoreError> {
        Ok(())
    }
}

impl Device for Slow {
    const ID: u32 = 42;

    fn queues(&self) -> &[u16] {
        &[16, 16]
    }

    fn reset(&mut self) {
        assert!(self.kept.is_empty(), "reset with requests in flight");
    }

    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served {
        self.kept.push((queue, chain.head));
        Served::Pending
    }

    fn complete(&mut self, pending: &mut Pending<'_>) {
        *self.starts.lock().unwrap() += 1;
        assert_eq!(pending.count(), self.kept.len());
        while !self.kept.is_empty() && self.allowed.read().is_ok() {
            let (queue, head) = self.kept.pop().unwrap();
            let lies = self.lies;
            assert!(pending.finish(queue, head, |chain| Self::answer(chain) + lies));
            assert!(!pending.finish(queue, head, Self::answer), "ended twice");
        }
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.allowed.as_raw_fd()]
    }
}

fn slow(allowed: u64) -> (Driver, Handle<Slow>, EventFd) {
    let device = Slow::new(allowed);
    let allow = device.allowed.try_clone().unwrap();
    let (mut driver, handle) = Driver::with_handle(mmio(device));
    driver.start(driver.offered());
    (driver, handle, allow)
}

#[test]
fn a_device_that_keeps_its_chains_conforms() {
    conformance::device(|| Slow::new(1 << 40));
}

#[test]
fn a_kept_chain_comes_back_when_the_device_is_done_with_it() {
    let (mut driver, _, allow) = slow(0);
    driver.memory().write_slice(b"ping", GuestAddress(BUFFERS)).unwrap();
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    assert_eq!((driver.queues[0].used(), driver.raised()), (vec![], 0));

    allow.write(1).unwrap();
    driver.run();

    assert_eq!(driver.queues[0].used(), [(0, 4)]);
    assert_eq!(driver.raised(), 1);
    let answer: [u8; 4] = driver.memory().read_obj(GuestAddress(BUFFERS + 0x100)).unwrap();
    assert_eq!(&answer, b"ping");
}

#[test]
fn kept_chains_come_back_in_any_order_of_all_queues() {
    let (mut driver, _, allow) = slow(0);
    let first = driver.queues[0].offer(&REQUEST);
    let second = driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    let other = driver.queues[1].offer(&REQUEST);
    driver.kick_and_run(1);

    allow.write(1).unwrap();
    driver.run();
    assert_eq!(
        (driver.queues[0].used(), driver.queues[1].used()),
        (vec![], vec![(other.into(), 4)])
    );
    allow.write(2).unwrap();
    driver.run();
    assert_eq!(driver.queues[0].used(), [(second.into(), 4), (first.into(), 4)]);
}

#[test]
fn one_turn_starts_what_it_has_taken_once() {
    let (mut driver, handle, _allow) = slow(0);
    for _ in 0..5 {
        driver.queues[0].offer(&REQUEST);
    }
    let starts = handle.with(|slow| Arc::clone(&slow.starts));
    driver.kick_and_run(0);
    assert_eq!(*starts.lock().unwrap(), 1);
}

#[test]
fn a_chain_that_is_offered_while_it_is_kept_breaks_the_device() {
    let (mut driver, ..) = slow(0);
    let head = driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    driver.queues[0].offer_head(head);
    driver.kick_and_run(0);
    assert!(driver.is_broken());
}

#[test]
fn what_a_broken_device_has_kept_is_not_used() {
    let (mut driver, _, allow) = slow(0);
    let head = driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    driver.queues[0].offer_head(head);
    driver.kick_and_run(0);
    allow.write(1).unwrap();
    driver.run();
    assert_eq!(driver.queues[0].used(), []);
}

#[test]
fn a_reset_waits_for_what_is_kept_and_the_driver_does_not_see_it() {
    let (mut driver, _, allow) = slow(0);
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    let host = std::thread::spawn(move || allow.write(1).unwrap());
    driver.reset();
    host.join().unwrap();
    assert_eq!(driver.queues[0].used(), []);
}

#[test]
fn a_queue_reset_waits_for_what_is_kept() {
    let (mut driver, handle, allow) = slow(0);
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    allow.write(1).unwrap();
    assert!(driver.reset_queue(0));
    assert!(handle.with(|slow| slow.kept.is_empty()));
}

#[test]
fn a_queue_is_taken_out_of_use_when_what_is_kept_has_ended() {
    let (mut driver, handle, allow) = slow(0);
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    allow.write(1).unwrap();
    driver.set(Register::QueueSelect, 0);
    driver.set(Register::QueueEnable, 0);
    assert!(handle.with(|slow| slow.kept.is_empty()));
    assert_eq!(driver.queues[0].used(), [(0, 4)]);
}

#[test]
fn bus_mastering_ends_when_what_is_kept_has_ended() {
    let device = Slow::new(0);
    let allow = device.allowed.try_clone().unwrap();
    let (mut driver, handle) = Driver::with_handle(pci(device));
    driver.start(0);
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    allow.write(1).unwrap();
    driver.buses().pio.write(0xcf8, &0x8000_0804_u32.to_le_bytes());
    driver.buses().pio.write(0xcfc, &[2]);
    assert!(handle.with(|slow| slow.kept.is_empty()));
    assert_eq!(driver.queues[0].used(), [(0, 4)]);
}

#[test]
fn a_restore_waits_for_what_is_kept() {
    let (mut driver, handle, allow) = slow(0);
    let saved = driver.save().remove(0);
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    allow.write(1).unwrap();
    driver.wiring().components[0].lock().unwrap().restore_section(saved).unwrap();
    assert!(handle.with(|slow| slow.kept.is_empty()));
}

#[test]
fn what_was_kept_before_a_ring_broke_is_started_and_ends() {
    let (mut driver, handle, _allow) = slow(1);
    driver.queues[0].offer(&REQUEST);
    driver.queues[0].offer_head(u16::MAX);
    driver.kick_and_run(0);
    assert!(driver.is_broken());
    assert!(handle.with(|slow| slow.kept.is_empty()));
    assert_eq!(driver.queues[0].used(), []);
}

#[test]
fn a_kept_chain_interrupts_as_the_driver_wishes() {
    let device = Slow::new(1 << 40);
    let mut driver = Driver::new(mmio(device));
    driver.start(0);
    for (suppressed, more) in [(true, 0), (false, 1)] {
        let raised = driver.raised();
        driver.queues[0].suppress(suppressed);
        driver.queues[0].offer(&REQUEST);
        driver.kick_and_run(0);
        assert_eq!((driver.queues[0].used().len(), driver.raised()), (1, raised + more));
    }
    driver.start(feature::EVENT_IDX);
    let raised = driver.raised();
    driver.queues[0].set_used_event(1);
    for more in [0, 1] {
        driver.queues[0].offer(&REQUEST);
        driver.kick_and_run(0);
        assert_eq!((driver.queues[0].used().len(), driver.raised()), (1, raised + more));
    }
}

#[test]
fn a_length_beyond_the_room_of_a_kept_chain_is_cut() {
    let device = Slow { lies: 1, ..Slow::new(1) };
    let mut driver = Driver::new(mmio(device));
    driver.start(0);
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 4)]);
}

#[test]
fn a_snapshot_waits_for_what_is_kept_and_shows_it_used() {
    let (mut driver, _, allow) = slow(0);
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    allow.write(1).unwrap();
    let mut driver = driver.transplant(mmio(Slow::new(0)));
    assert_eq!(driver.queues[0].used(), [(0, 4)]);
    driver.queues[0].offer(&REQUEST);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), []);
}

/// Has work that no request asks for.
struct Attentive(EventFd);

impl Persist for Attentive {
    type State = SlowState;

    fn save(&mut self) -> Result<SlowState, SaveError> {
        Ok(SlowState {})
    }

    fn restore(&mut self, _: SlowState) -> Result<(), RestoreError> {
        Ok(())
    }
}

impl Device for Attentive {
    const ID: u32 = 42;
    const ATTENTIVE: bool = true;

    fn queues(&self) -> &[u16] {
        &[16]
    }

    fn serve(&mut self, _: u16, _: &mut Chain<'_>) -> Served {
        Served::Used(0)
    }

    fn complete(&mut self, _: &mut Pending<'_>) {
        drop(self.0.read());
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.0.as_raw_fd()]
    }
}

#[test]
fn an_attentive_device_hears_of_its_sources_though_nothing_is_kept() {
    let event = EventFd::new(flags()).unwrap();
    let mut driver = Driver::new(mmio(Attentive(event.try_clone().unwrap())));
    driver.start(0);
    event.write(1).unwrap();
    driver.run();
    assert!(event.read().is_err(), "the device has read it");
}
