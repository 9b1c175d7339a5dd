//! Back ends that do not keep to the protocol: at the start an error that says so, later a device that
//! waits for a better one.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod backend;

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    sync::atomic::Ordering::SeqCst,
    thread,
    time::Instant,
};

use backend::{Backend, Lie, Options, PROTOCOL, Scratch, VERSION_1, wait_until};
use purlin_vhost_user::{BackendError, Settings, VhostUser};
use virtio::{Handle, conformance::Driver};

type Block = VhostUser<2>;

/// REPLY_ACK and CONFIG.
const PROTOCOL_WITHOUT_MQ: u64 = 1 << 3 | 1 << 9;
const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_OWNER: u32 = 3;
const SET_MEM_TABLE: u32 = 5;
const GET_VRING_BASE: u32 = 11;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;
const GET_CONFIG: u32 = 24;
const SET_CONFIG: u32 = 25;
const GET_INFLIGHT_FD: u32 = 31;
const SET_INFLIGHT_FD: u32 = 32;
/// `SET_VRING_` and what: number, places, index, kick, call, enable.
const SET_VRING: [u32; 6] = [8, 9, 10, 12, 13, 18];

/// What is wrong about any answer.
const LIES: [Lie; 11] = [
    Lie::Close,
    Lie::HalfHeader,
    Lie::HalfBody,
    Lie::Short,
    Lie::Long,
    Lie::Giant,
    Lie::WrongCode,
    Lie::NoAnswer,
    Lie::WrongVersion,
    Lie::File,
    Lie::Files,
];

fn lying(request: u32, lie: Lie) -> Options {
    Options { lie: Some((request, lie)), ..Options::default() }
}

fn refusal(options: Options) -> BackendError {
    let scratch = Scratch::new();
    let _backend = Backend::new(&scratch.socket("a"), options);
    Block::connect(scratch.socket("a"), Settings::block()).unwrap_err()
}

#[test]
fn a_start_with_a_wrong_answer_is_an_error_that_names_the_request() {
    for (request, name) in [
        (GET_FEATURES, "GET_FEATURES"),
        (GET_PROTOCOL_FEATURES, "GET_PROTOCOL_FEATURES"),
        (SET_OWNER, "SET_OWNER"),
        (GET_QUEUE_NUM, "GET_QUEUE_NUM"),
        (GET_CONFIG, "GET_CONFIG"),
    ] {
        for lie in LIES {
            let error = refusal(lying(request, lie)).to_string();
            assert!(error.contains(name), "{name} {lie:?}: {error}");
        }
    }
}

#[test]
fn an_acknowledge_that_says_no_is_a_refusal() {
    let error = refusal(lying(SET_OWNER, Lie::Ones));
    assert!(matches!(error, BackendError::Refused { request: "SET_OWNER" }), "{error}");
}

#[test]
fn a_second_answer_is_found_out_at_the_next_request() {
    for request in [GET_FEATURES, GET_PROTOCOL_FEATURES, SET_OWNER, GET_QUEUE_NUM] {
        let error = refusal(lying(request, Lie::Twice));
        assert!(matches!(error, BackendError::Nonsense { .. }), "{error}");
    }
}

#[test]
fn a_back_end_that_does_not_answer_is_given_up() {
    let begun = Instant::now();
    let error = refusal(lying(GET_FEATURES, Lie::Silence)).to_string();
    assert!(error.contains("has not answered GET_FEATURES within 3s"), "{error}");
    assert!(begun.elapsed().as_secs() < 10);
}

#[test]
fn a_socket_at_which_nobody_accepts_is_given_up() {
    let scratch = Scratch::new();
    let _listener = UnixListener::bind(scratch.socket("a")).unwrap();
    let error = Block::connect(scratch.socket("a"), Settings::block()).unwrap_err();
    assert!(matches!(error, BackendError::Silent { .. }), "{error}");
}

/// Marsaglia's xorshift.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Answers everything, with some bits of each answer changed, and hangs up in the end.
fn babble(listener: &UnixListener, mut seed: u64) {
    let (mut stream, _) = listener.accept().unwrap();
    for _ in 0..20 {
        let mut header = [0; 12];
        if stream.read_exact(&mut header).is_err() {
            return;
        }
        let len = usize::from(header[8]) + 256 * usize::from(header[9]);
        let mut body = vec![0; len];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let len = if body.len() > 8 { body.len() } else { 8 };
        body.resize(len, 0);
        let mut answer =
            [&header[..4], &[5, 0, 0, 0, u8::try_from(len).unwrap(), 0, 0, 0]].concat();
        // Everything is offered, and a lot of it.
        body[..8].copy_from_slice(&random(&mut seed).to_ne_bytes());
        if header[0] == 1 {
            body[..8].fill(0xff);
        }
        answer.extend(body);
        if random(&mut seed).is_multiple_of(4) {
            let at = usize::try_from(random(&mut seed) >> 8).unwrap() % answer.len();
            answer[at] ^= 1 << (random(&mut seed) % 8);
        }
        // Half an answer, and then nothing, would have to be waited for.
        let half = random(&mut seed).is_multiple_of(16);
        answer.truncate(if half { answer.len() / 2 } else { answer.len() });
        if stream.write_all(&answer).is_err() || half {
            return;
        }
    }
}

#[test]
fn babble_is_an_error_at_once_or_a_device() {
    let scratch = Scratch::new();
    let mut errors = 0;
    for seed in 1..=300_u64 {
        let socket = scratch.socket(&seed.to_string());
        let listener = UnixListener::bind(&socket).unwrap();
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let babbler = thread::spawn(move || babble(&listener, seed));
        errors += usize::from(Block::connect(&socket, Settings::block()).is_err());
        babbler.join().unwrap();
    }
    assert!(errors > 100, "{errors} of 300");
}

#[test]
fn a_back_end_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    let error = Block::connect(scratch.socket("none"), Settings::block()).unwrap_err().to_string();
    assert!(error.contains("no vhost-user back end at the socket") && error.contains("/none"));
}

#[test]
fn a_back_end_that_lacks_something_is_refused_with_what_it_lacks() {
    let good = Options::default();
    for (options, told) in [
        (Options { features: good.features & !VERSION_1, ..good.clone() }, "VERSION_1"),
        (Options { features: good.features & !PROTOCOL, ..good.clone() }, "protocol features"),
        (Options { protocol: 0, ..good.clone() }, "a configuration space"),
        (Options { queues: 0, ..good }, "has 0 queues; the device is to have 1"),
    ] {
        let error = refusal(options).to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_back_end_that_cannot_say_how_many_queues_it_has_has_no_more_than_every_one() {
    let options = Options { protocol: PROTOCOL_WITHOUT_MQ, ..Options::default() };
    let scratch = Scratch::new();
    let _backend = Backend::new(&scratch.socket("a"), options);
    let two = Settings::block().queues(2).unwrap();
    let error = Block::connect(scratch.socket("a"), two).unwrap_err().to_string();
    assert!(error.contains("has 1 queues; the device is to have 2"), "{error}");
    Block::connect(scratch.socket("a"), Settings::block()).unwrap();
    VhostUser::<26>::connect(scratch.socket("a"), Settings::fs("home").unwrap()).unwrap();
}

#[test]
fn a_pair_of_queues_is_one_to_the_back_end_of_a_network_card() {
    for (queues, does) in [(0, false), (1, true), (2, true)] {
        let scratch = Scratch::new();
        let _backend = Backend::new(&scratch.socket("a"), Options { queues, ..Options::default() });
        let net = Settings::net([2, 0, 0, 0, 0, 1]);
        let card = VhostUser::<1>::connect(scratch.socket("a"), net);
        assert_eq!(card.is_ok(), does, "{queues}: {card:?}");
    }
}

/// A driver whose back end lies when `act` has it asked something: it is lost.
fn loses(
    request: u32,
    lie: Lie,
    act: fn(&mut Driver),
) -> (Driver, Handle<Block>, Backend, Scratch) {
    let scratch = Scratch::new();
    let backend = Backend::new(&scratch.socket("a"), lying(request, lie));
    let block = Block::connect(scratch.socket("a"), Settings::block()).unwrap();
    let (mut driver, handle) = Driver::with_handle(virtio::mmio(block));
    act(&mut driver);
    let what = format!("request {request}, {lie:?}");
    wait_until(&what, || {
        driver.run();
        !handle.with(|block| block.is_connected())
    });
    assert!(!driver.is_broken(), "{what}: the driver is told to reset the device");
    (driver, handle, backend, scratch)
}

/// The same; then a good one comes.
fn outlives(request: u32, lie: Lie, act: fn(&mut Driver)) {
    let (mut driver, handle, backend, scratch) = loses(request, lie, act);
    let what = format!("request {request}, {lie:?}");
    drop(backend);

    let _backend = Backend::new(&scratch.socket("a"), Options::default());
    wait_until(&what, || {
        driver.run();
        handle.with(|block| block.is_connected())
    });
    driver.start(driver.offered());
    assert!(handle.with(|block| block.is_connected()), "{what}");
}

#[test]
fn a_wrong_answer_later_makes_the_device_wait_for_a_better_back_end() {
    let start = |driver: &mut Driver| driver.start(driver.offered());
    let ring = SET_VRING.into_iter().chain([SET_FEATURES, SET_MEM_TABLE, SET_INFLIGHT_FD]);
    for request in ring {
        for lie in LIES.into_iter().chain([Lie::Ones, Lie::Twice]) {
            outlives(request, lie, start);
        }
    }
    for lie in LIES.into_iter().filter(|lie| *lie != Lie::File) {
        outlives(GET_INFLIGHT_FD, lie, start);
    }
    outlives(GET_INFLIGHT_FD, Lie::NoFile, start);
    outlives(GET_INFLIGHT_FD, Lie::Ones, start);
}

#[test]
fn a_wrong_answer_in_a_reset_makes_the_device_wait_for_a_better_back_end() {
    for lie in LIES.into_iter().chain([Lie::Ones]) {
        outlives(GET_VRING_BASE, lie, |driver| {
            driver.start(driver.offered());
            driver.reset();
        });
        outlives(SET_CONFIG, lie, |driver| {
            driver.start(driver.offered());
            driver.write_config(32, &[0]);
        });
    }
}

#[test]
fn a_file_descriptor_that_takes_long_to_close_keeps_nobody_waiting() {
    let begun = Instant::now();
    for request in [SET_MEM_TABLE, GET_INFLIGHT_FD, GET_VRING_BASE] {
        loses(request, Lie::Lingering, |driver| {
            driver.start(driver.offered());
            driver.reset();
        });
    }
    // Each closing takes half a minute.
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn events_that_a_back_end_has_made_block_keep_nobody_waiting() {
    let scratch = Scratch::new();
    let options = lying(18, Lie::Close);
    options.blocks.store(true, SeqCst);
    let _backend = Backend::new(&scratch.socket("a"), options);
    let block = Block::connect(scratch.socket("a"), Settings::block()).unwrap();
    let (mut driver, handle) = Driver::with_handle(virtio::mmio(block));
    driver.start(driver.offered());
    wait_until("it is lost", || {
        driver.run();
        !handle.with(|block| block.is_connected())
    });
}

#[test]
fn a_back_end_that_falls_silent_is_given_up() {
    for request in [SET_MEM_TABLE, GET_VRING_BASE] {
        outlives(request, Lie::Silence, |driver| {
            driver.start(driver.offered());
            driver.reset();
        });
    }
}
