//! A device whose queues are served elsewhere: when they are handed over, and when taken back.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use device::{EventFd, Persist, RestoreError, SaveError, Versioned};
use purlin_virtio::{
    Call, Chain, Device, Offload, OffloadError, OffloadedRing, Served, conformance::Driver,
    feature, mmio,
};
use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

/// What happened, in its order: started at an index, stopped, called.
type Log = Arc<Mutex<Vec<(&'static str, u16, u16)>>>;

/// The events of a ring: kick and call.
type Events = Arc<Mutex<Option<(EventFd, Call)>>>;

#[derive(Clone, Default)]
struct Elsewhere {
    log: Log,
    events: Events,
    /// The queue that cannot be served.
    refuses: Option<u16>,
    features: u64,
}

impl Elsewhere {
    fn log(&self) -> Vec<(&'static str, u16, u16)> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn say(&self, what: &'static str, queue: u16, index: u16) {
        self.log.lock().unwrap().push((what, queue, index));
    }
}

impl Device for Elsewhere {
    const ID: u32 = 63;

    fn features(&self) -> u64 {
        self.features
    }

    fn queues(&self) -> &[u16] {
        &[8, 8]
    }

    fn negotiated(&mut self, _: u64) {
        self.say("negotiated", 0, 0);
    }

    fn reset(&mut self) {
        self.say("reset", 0, 0);
    }

    fn serve(&mut self, queue: u16, _: &mut Chain<'_>) -> Served {
        self.say("served", queue, 0);
        Served::Used(0)
    }

    fn offload(&mut self) -> Option<&mut dyn Offload> {
        Some(self)
    }
}

impl Offload for Elsewhere {
    fn start(&mut self, queue: u16, ring: OffloadedRing) -> Result<(), OffloadError> {
        self.say("start", queue, ring.next);
        if self.refuses == Some(queue) {
            return Err("not here".into());
        }
        *self.events.lock().unwrap() = Some((ring.kick, ring.call));
        Ok(())
    }

    fn stop(&mut self, queue: u16) -> u16 {
        self.say("stop", queue, 5);
        5
    }

    fn called(&mut self, queue: u16) {
        self.say("called", queue, 0);
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Versioned for Nothing {
    const KIND: &'static str = "test.elsewhere";
    const VERSION: u32 = 1;
}

impl Persist for Elsewhere {
    type State = Nothing;

    fn save(&mut self) -> Result<Nothing, SaveError> {
        Ok(Nothing {})
    }

    fn restore(&mut self, _: Nothing) -> Result<(), RestoreError> {
        Ok(())
    }
}

fn started() -> (Elsewhere, Driver) {
    let device = Elsewhere::default();
    let mut driver = Driver::new(mmio(device.clone()));
    driver.start(driver.offered());
    (device, driver)
}

#[test]
fn queues_are_handed_over_when_the_driver_is_ready() {
    let device = Elsewhere::default();
    let mut driver = Driver::new(mmio(device.clone()));
    assert!(driver.negotiate(0) && driver.enable(1));
    driver.kick_and_run(1);
    assert_eq!(device.log(), [("reset", 0, 0), ("negotiated", 0, 0)]);
    driver.set_status(0x0f);
    driver.run();
    assert_eq!(device.log(), [("start", 1, 0)]);
    assert!(driver.enable(0));
    driver.run();
    assert_eq!(device.log(), [("start", 0, 0)]);
}

#[test]
fn the_doorbell_rings_where_the_queue_is_served() {
    let (device, mut driver) = started();
    let events = device.events.lock().unwrap().take().unwrap();
    assert!(events.0.read().is_ok(), "once in the beginning");
    driver.queues[1].offer(&[(0x8_1000, 0, false)]);
    driver.kick(1);
    driver.run();
    assert!(events.0.read().is_ok());
    let raised = driver.raised();
    events.1.signal();
    driver.run();
    assert_eq!(driver.raised(), raised + 1);
    let log = device.log();
    assert!(log.ends_with(&[("start", 1, 0), ("called", 1, 0)]), "{log:?}");
}

#[test]
fn queues_are_taken_back_before_a_reset_and_when_the_driver_fails() {
    let (device, mut driver) = started();
    device.log();
    assert!(driver.reset_queue(0));
    assert_eq!(device.log(), [("stop", 0, 5)]);
    driver.reset();
    assert_eq!(device.log(), [("stop", 1, 5), ("reset", 0, 0)]);
    driver.start(0);
    device.log();
    driver.set_status(0x8f);
    assert_eq!(device.log(), [("stop", 0, 5), ("stop", 1, 5)]);
    driver.run();
    assert_eq!(device.log(), []);
}

#[test]
fn queues_are_taken_back_to_be_saved_and_handed_over_again() {
    let (device, mut driver) = started();
    device.log();
    driver.save();
    assert_eq!(device.log(), [("stop", 0, 5), ("stop", 1, 5)]);
    driver.run();
    assert_eq!(device.log(), [("start", 0, 5), ("start", 1, 5)]);
    let other = Elsewhere::default();
    let mut driver = driver.transplant(mmio(other.clone()));
    assert_eq!(other.log(), [("negotiated", 0, 0)]);
    driver.run();
    assert_eq!(other.log(), [("start", 0, 5), ("start", 1, 5)]);
}

#[test]
fn an_interrupt_that_nobody_has_seen_to_is_not_lost_when_the_device_is_saved() {
    let (device, driver) = started();
    let raised = driver.raised();
    device.events.lock().unwrap().as_ref().unwrap().1.signal();
    driver.save();
    assert_eq!(driver.raised(), raised + 1);
    driver.save();
    assert_eq!(driver.raised(), raised + 1);
}

/// Has `event` block for all who have it, as any of them can.
fn block(event: &impl AsRawFd) -> OwnedFd {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let event = pidfd_getfd(own, event.as_raw_fd(), PidfdGetfdFlags::empty()).unwrap();
    fcntl_setfl(&event, OFlags::empty()).unwrap();
    event
}

#[test]
fn a_server_that_makes_the_events_block_keeps_nobody_waiting() {
    let (device, mut driver) = started();
    let (kick, call) = device.events.lock().unwrap().take().unwrap();
    block(&call);
    let kick = block(&kick);
    rustix::io::read(&kick, &mut [0; 8]).unwrap();
    rustix::io::write(&kick, &(u64::MAX - 1).to_ne_bytes()).unwrap();

    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        driver.save();
        driver.run();
        driver.notify(0);
        driver.notify(1);
        ended.send(driver.is_broken()).unwrap();
    });

    let broken = end.recv_timeout(Duration::from_secs(10));
    assert_eq!(broken, Ok(false), "somebody waits for an event");
    let log = device.log();
    assert!(log.ends_with(&[("start", 0, 5), ("start", 1, 5)]), "{log:?}");
}

#[test]
fn a_ring_that_cannot_be_served_makes_the_device_ask_for_a_reset() {
    let device = Elsewhere { refuses: Some(0), ..Elsewhere::default() };
    let mut driver = Driver::new(mmio(device.clone()));
    assert!(driver.negotiate(0) && driver.enable(0));
    driver.set_status(0x0f);
    driver.run();
    assert!(driver.is_broken());
    driver.run();
    assert_eq!(device.log().last(), Some(&("start", 0, 0)));
}

#[test]
fn extensions_of_queues_are_offered_if_the_server_has_them() {
    let both = feature::INDIRECT_DESC | feature::EVENT_IDX;
    let always = feature::VERSION_1 | feature::RING_RESET;
    for (has, offered) in [(0, 0), (feature::EVENT_IDX, feature::EVENT_IDX), (both | 1 << 30, both)]
    {
        let driver = Driver::new(mmio(Elsewhere { features: has, ..Elsewhere::default() }));
        assert_eq!(driver.offered(), always | offered);
    }
}

#[test]
fn the_other_queues_of_a_device_that_is_broken_are_taken_back() {
    let device = Elsewhere { refuses: Some(1), ..Elsewhere::default() };
    let mut driver = Driver::new(mmio(device.clone()));
    driver.start(0);
    assert!(driver.is_broken());
    let log = device.log();
    assert!(log.ends_with(&[("start", 0, 0), ("start", 1, 0), ("stop", 0, 5)]), "{log:?}");
}

#[test]
fn a_call_after_the_driver_has_given_up_interrupts_nobody() {
    let (device, mut driver) = started();
    driver.set_status(0x8f);
    let raised = driver.raised();
    device.events.lock().unwrap().as_ref().unwrap().1.signal();
    driver.run();
    assert_eq!(driver.raised(), raised);
}

#[test]
fn a_queue_that_was_taken_back_has_given_back_what_it_took() {
    let (_device, driver) = started();
    let saved = driver.save();
    let ring = &saved[0].state["worker"]["rings"][0];
    assert_eq!([&ring["next_avail"], &ring["next_used"]], [5, 5]);
}
