//! Bytes of a plain console, in both directions.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use legacy::{Backend, FileMode};
use memory::{Bytes, GuestAddress};
use purlin_virtio_console::{Console, Port};
use virtio::conformance::{BUFFERS, Driver};
use vmm_sys_util::tempdir::TempDir;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// A console at one end of a pair of sockets, and the other end.
fn console() -> (Console, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let backend = Backend::new(ours.try_clone().unwrap()).input(ours).unwrap();
    (Console::new(vec![Port::console(backend)]).unwrap(), theirs)
}

fn driver() -> (Driver, UnixStream) {
    let (console, end) = console();
    let mut driver = Driver::new(virtio::mmio(console));
    driver.start(driver.offered());
    (driver, end)
}

/// A pattern that shows what is missing or there twice.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

/// Offers `bytes`, at most half a mebibyte, in two buffers.
fn offer(driver: &mut Driver, bytes: &[u8]) -> u16 {
    driver.memory().write_slice(bytes, GuestAddress(BUFFERS)).unwrap();
    let (first, rest) = (1, u32::try_from(bytes.len() - 1).unwrap());
    driver.queues[TRANSMIT].offer(&[(BUFFERS, first, false), (BUFFERS + 1, rest, false)])
}

#[test]
fn output_arrives() {
    let (mut driver, mut end) = driver();
    let head = offer(&mut driver, b"hello");
    driver.kick_and_run(TRANSMIT);
    assert_eq!(driver.queues[TRANSMIT].used(), [(head.into(), 0)]);
    let mut seen = [0; 5];
    end.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"hello");
}

#[test]
fn a_large_output_arrives_whole_and_only_then_comes_back() {
    let (mut driver, mut end) = driver();
    let sent = pattern(300_000);
    offer(&mut driver, &sent);
    driver.kick_and_run(TRANSMIT);
    assert_eq!(driver.queues[TRANSMIT].used(), [], "nobody has read it yet");
    let mut seen = Vec::new();
    let mut piece = [0; 10_000];
    while seen.len() < sent.len() {
        let read = end.read(&mut piece).unwrap();
        seen.extend_from_slice(&piece[..read]);
        driver.run();
    }
    assert!(seen == sent);
    assert_eq!(driver.queues[TRANSMIT].used().len(), 1);
}

#[test]
fn a_large_output_to_an_end_that_never_waits_takes_turns_and_arrives_whole() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("log");
    let backend = Backend::file(&path, FileMode::Truncate).unwrap();
    let console = Console::new(vec![Port::console(backend)]).unwrap();
    let mut driver = Driver::new(virtio::mmio(console));
    driver.start(driver.offered());
    let sent = pattern(400_000);
    offer(&mut driver, &sent);
    driver.kick(TRANSMIT);
    driver.turn();
    let after_one_turn = std::fs::read(&path).unwrap().len();
    assert!((1..100_000).contains(&after_one_turn), "{after_one_turn} bytes in one turn");
    driver.run();
    assert_eq!(driver.queues[TRANSMIT].used().len(), 1);
    assert!(std::fs::read(&path).unwrap() == sent);
}

#[test]
fn the_same_chain_twice_is_sent_twice() {
    let (mut driver, mut end) = driver();
    let head = offer(&mut driver, b"hello");
    driver.kick_and_run(TRANSMIT);
    driver.queues[TRANSMIT].offer_head(head);
    driver.kick_and_run(TRANSMIT);
    let mut seen = [0; 10];
    end.set_nonblocking(true).unwrap();
    end.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"hellohello");
}

#[test]
fn output_that_waits_continues_after_a_snapshot() {
    let (mut driver, mut end) = driver();
    let sent = pattern(400_000);
    offer(&mut driver, &sent);
    driver.kick_and_run(TRANSMIT);
    end.set_nonblocking(true).unwrap();
    let mut seen = Vec::new();
    let error = end.read_to_end(&mut seen).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);

    let (console, mut end) = console();
    let mut driver = driver.transplant(virtio::mmio(console));
    let mut piece = [0; 10_000];
    while seen.len() < sent.len() {
        driver.run();
        let read = end.read(&mut piece).unwrap();
        seen.extend_from_slice(&piece[..read]);
    }
    assert!(seen == sent);
}

#[test]
fn a_queue_that_is_reset_forgets_what_was_half_sent() {
    let (mut driver, mut end) = driver();
    offer(&mut driver, &pattern(400_000));
    driver.kick_and_run(TRANSMIT);
    assert!(driver.reset_queue(TRANSMIT) && driver.enable(TRANSMIT));
    end.set_nonblocking(true).unwrap();
    let mut seen = Vec::new();
    end.read_to_end(&mut seen).unwrap_err();
    driver.run();
    seen.clear();
    end.read_to_end(&mut seen).unwrap_err();
    offer(&mut driver, b"hello");
    driver.kick_and_run(TRANSMIT);
    end.read_to_end(&mut seen).unwrap_err();
    assert_eq!(seen, b"hello");
}

#[test]
fn output_to_an_end_that_is_closed_is_lost_and_the_guest_goes_on() {
    let (mut driver, end) = driver();
    drop(end);
    for _ in 0..3 {
        offer(&mut driver, b"hello");
        driver.kick_and_run(TRANSMIT);
        assert_eq!(driver.queues[TRANSMIT].used().len(), 1);
    }
}

#[test]
fn input_arrives_as_far_as_there_is_room_and_the_rest_later() {
    let (mut driver, mut end) = driver();
    end.write_all(b"abcdef").unwrap();
    let first = driver.queues[RECEIVE].offer(&[(BUFFERS, 1, true), (BUFFERS + 0x100, 3, true)]);
    driver.kick_and_run(RECEIVE);
    assert_eq!(driver.queues[RECEIVE].used(), [(first.into(), 4)]);
    assert_eq!(driver.memory().read_obj::<[u8; 1]>(GuestAddress(BUFFERS)).unwrap(), *b"a");
    assert_eq!(
        driver.memory().read_obj::<[u8; 3]>(GuestAddress(BUFFERS + 0x100)).unwrap(),
        *b"bcd"
    );
    let second = driver.queues[RECEIVE].offer(&[(BUFFERS, 100, true)]);
    driver.kick_and_run(RECEIVE);
    assert_eq!(driver.queues[RECEIVE].used(), [(second.into(), 2)]);
}

#[test]
fn a_buffer_waits_for_input() {
    let (mut driver, mut end) = driver();
    let head = driver.queues[RECEIVE].offer(&[(BUFFERS, 100, true)]);
    driver.kick_and_run(RECEIVE);
    assert_eq!(driver.queues[RECEIVE].used(), []);
    end.write_all(b"xy").unwrap();
    driver.run();
    assert_eq!(driver.queues[RECEIVE].used(), [(head.into(), 2)]);
}

#[test]
fn the_end_of_input_is_the_end_of_input_only() {
    let (mut driver, end) = driver();
    end.shutdown(std::net::Shutdown::Write).unwrap();
    driver.queues[RECEIVE].offer(&[(BUFFERS, 100, true)]);
    driver.kick_and_run(RECEIVE);
    assert_eq!(driver.queues[RECEIVE].used(), []);
    offer(&mut driver, b"hello");
    driver.kick_and_run(TRANSMIT);
    assert_eq!(driver.queues[TRANSMIT].used().len(), 1);
}

#[test]
fn a_flood_of_input_waits_at_the_host() {
    let (mut driver, mut end) = driver();
    end.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(written) = end.write(&[b'x'; 4096]) {
        sent += written;
        driver.run();
    }
    let mut taken = 0;
    while taken < sent {
        driver.queues[RECEIVE].offer(&[(BUFFERS, 0x1000, true)]);
        driver.kick_and_run(RECEIVE);
        taken += driver.queues[RECEIVE].used().iter().map(|used| used.1 as usize).sum::<usize>();
    }
    assert_eq!(taken, sent);
}
