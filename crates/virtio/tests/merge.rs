//! Chains that are served as one.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::Write;

use device::{Persist, RestoreError, SaveError, Versioned};
use memory::{Bytes, GuestAddress};
use purlin_virtio::{
    Chain, Device, Handle, Served,
    conformance::{BUFFERS, Driver},
    feature, mmio,
};
use serde::{Deserialize, Serialize};

/// Gives out messages, each in as many chains as it takes. The first byte says how many.
#[derive(Default)]
struct Messages {
    waiting: Vec<Vec<u8>>,
    serves: u32,
    /// Asks for so many bytes of room before it looks for a message.
    gathers: Option<u32>,
    /// It keeps what it has merged, which it must not.
    keeps: bool,
    /// It keeps the next chain, whatever it has to give.
    keeps_one: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessagesState {}

impl Versioned for MessagesState {
    const KIND: &'static str = "test.messages";
    const VERSION: u32 = 1;
}

impl Persist for Messages {
    type State = MessagesState;

    fn save(&mut self) -> Result<MessagesState, SaveError> {
        Ok(MessagesState {})
    }

    fn restore(&mut self, _: MessagesState) -> Result<(), RestoreError> {
        Ok(())
    }
}

impl Device for Messages {
    const ID: u32 = 42;

    fn queues(&self) -> &[u16] {
        &[8]
    }

    fn serve(&mut self, _: u16, chain: &mut Chain<'_>) -> Served {
        self.serves += 1;
        if std::mem::take(&mut self.keeps_one) {
            return Served::Pending;
        }
        if let Some(bytes) = self.gathers
            && !chain.is_gathered()
        {
            return Served::Gather(bytes);
        }
        let Some(message) = self.waiting.first() else { return Served::Stall };
        let len = u32::try_from(1 + message.len()).unwrap();
        if chain.writer.available_bytes() < usize::try_from(len).unwrap() {
            return Served::Merge(len);
        }
        if self.keeps {
            return Served::Pending;
        }
        chain.writer.write_obj(u8::try_from(chain.chains_for(1 + message.len())).unwrap()).unwrap();
        chain.writer.write_all(message).unwrap();
        self.waiting.remove(0);
        Served::Used(len)
    }
}

fn messages() -> (Driver, Handle<Messages>) {
    let (mut driver, handle) = Driver::with_handle(mmio(Messages::default()));
    driver.start(driver.offered());
    (driver, handle)
}

/// Offers `count` chains of 4 bytes, one after the other.
fn offer(driver: &mut Driver, count: u64) {
    for index in 0..count {
        driver.queues[0].offer(&[(BUFFERS + 4 * index, 4, true)]);
    }
}

fn ram(driver: &Driver) -> [u8; 12] {
    driver.memory().read_obj(GuestAddress(BUFFERS)).unwrap()
}

#[test]
fn a_message_spans_as_many_chains_as_it_needs_and_no_more() {
    let (mut driver, handle) = messages();
    handle.with(|it| it.waiting.push(b"abcdefgh".to_vec()));
    offer(&mut driver, 4);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 4), (1, 4), (2, 1)]);
    assert_eq!(&ram(&driver)[..9], b"\x03abcdefgh");
    // One that was too small, one that was not, and the one that found nothing to give.
    assert_eq!(handle.with(|it| it.serves), 3);
}

#[test]
fn a_message_waits_until_there_are_chains_enough_and_the_driver_is_asked_for_them() {
    let (mut driver, handle) = messages();
    handle.with(|it| it.waiting.push(b"abcdefgh".to_vec()));
    offer(&mut driver, 2);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), []);
    driver.queues[0].offer(&[(BUFFERS + 8, 4, true)]);
    assert!(driver.queues[0].wants_kick());
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 4), (1, 4), (2, 1)]);
}

#[test]
fn the_driver_is_interrupted_when_its_event_index_is_anywhere_among_merged_chains() {
    for event in 0..3 {
        let (mut driver, handle) = messages();
        assert_ne!(driver.offered() & feature::EVENT_IDX, 0);
        handle.with(|it| it.waiting.push(b"abcdefgh".to_vec()));
        driver.queues[0].set_used_event(event);
        offer(&mut driver, 3);
        driver.kick_and_run(0);
        assert_eq!(driver.raised(), 1, "event index {event}");
    }
}

/// A device that wants three chains, the second or third of which is malformed: all that it has come back
/// empty, and its message stays.
fn meets_a_malformed_chain(make: impl Fn() -> (Driver, Handle<Messages>)) {
    for last in [(BUFFERS, 4, false), (BUFFERS, 0, true), (1 << 40, 4, true), (!3, 4, true)] {
        for before in [1, 2] {
            let (mut driver, handle) = make();
            offer(&mut driver, before);
            driver.queues[0].offer(&[last]);
            driver.kick_and_run(0);
            let all: Vec<_> = (0..=u32::try_from(before).unwrap()).map(|head| (head, 0)).collect();
            assert_eq!(driver.queues[0].used(), all, "{last:?}");
            assert_eq!(handle.with(|it| it.waiting.len()), 1);
            assert!(!driver.is_broken());
        }
    }
}

#[test]
fn a_malformed_chain_among_them_brings_all_back_empty_and_the_message_stays() {
    meets_a_malformed_chain(|| {
        let (driver, handle) = messages();
        handle.with(|it| it.waiting.push(b"abcdefgh".to_vec()));
        (driver, handle)
    });
}

#[test]
fn chains_of_several_buffers_may_stand_among_those_of_one() {
    let (mut driver, handle) = gathering();
    handle.with(|it| it.waiting = vec![b"abcdefghijk".to_vec()]);
    let queue = &mut driver.queues[0];
    queue.offer(&[(BUFFERS + 16, 2, true)]);
    queue.offer(&[(BUFFERS + 6, 3, true), (BUFFERS, 2, true)]);
    queue.offer(&[(BUFFERS + 2, 4, true)]);
    queue.offer(&[(BUFFERS + 9, 1, true)]);
    driver.kick_and_run(0);
    let used: Vec<_> = driver.queues[0].used().iter().map(|(_, len)| *len).collect();
    assert_eq!(used, [2, 5, 4, 1]);
    assert_eq!(&ram(&driver)[..10], b"efghijbcdk");
    let first: [u8; 2] = driver.memory().read_obj(GuestAddress(BUFFERS + 16)).unwrap();
    assert_eq!(&first, b"\x04a");
}

#[test]
fn a_chain_that_the_device_has_kept_is_not_merged() {
    for between in [1, 2] {
        let (mut driver, handle) = gathering();
        handle.with(|it| it.keeps_one = true);
        offer(&mut driver, 1 + between);
        driver.queues[0].offer_head(0);
        driver.kick_and_run(0);
        assert!(driver.is_broken());
        assert_eq!(driver.queues[0].used(), []);
    }
}

#[test]
fn a_message_larger_than_the_whole_queue_stalls_and_leaves_no_busy_loop() {
    let (mut driver, handle) = messages();
    handle.with(|it| it.waiting.push(vec![0; 100]));
    offer(&mut driver, 8);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), []);
    assert_eq!(driver.turn(), 0);
}

/// A device that gathers 12 bytes of room, and has a message of 5.
fn gathering() -> (Driver, Handle<Messages>) {
    let (driver, handle) = messages();
    handle.with(|it| {
        it.gathers = Some(12);
        it.waiting.push(b"abcd".to_vec());
    });
    (driver, handle)
}

#[test]
fn of_gathered_chains_those_come_back_that_hold_bytes_and_the_others_are_served_next() {
    let (mut driver, handle) = gathering();
    handle.with(|it| it.waiting.push(b"efghij".to_vec()));
    offer(&mut driver, 5);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 4), (1, 1), (2, 4), (3, 3)]);
    assert_eq!(&ram(&driver)[..5], b"\x02abcd");
    assert_eq!(&ram(&driver)[8..], b"\x02efg");
    assert!(handle.with(|it| it.waiting.is_empty()));
    // The last chain is still there.
    handle.with(|it| it.waiting.push(b"".to_vec()));
    driver.turn();
    assert_eq!(driver.queues[0].used(), [(4, 1)]);
}

#[test]
fn a_device_that_gathers_is_served_with_what_there_is() {
    let (mut driver, handle) = gathering();
    offer(&mut driver, 2);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 4), (1, 1)]);
    assert!(handle.with(|it| it.waiting.is_empty()));
    handle.with(|it| it.waiting.push(b"x".to_vec()));
    offer(&mut driver, 1);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used().len(), 1, "one chain, and nothing to gather");
}

#[test]
fn a_malformed_chain_among_gathered_ones_brings_all_back_empty() {
    meets_a_malformed_chain(gathering);
}

#[test]
fn chains_that_were_merged_cannot_be_kept_and_come_back_empty() {
    let (mut driver, handle) = messages();
    handle.with(|it| {
        it.waiting.push(b"abcdefgh".to_vec());
        it.keeps = true;
    });
    offer(&mut driver, 3);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 0), (1, 0), (2, 0)]);
}
