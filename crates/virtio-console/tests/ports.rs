//! Several ports, and what driver and device tell each other of them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use legacy::Backend;
use memory::{Bytes, GuestAddress};
use purlin_virtio_console::{Console, ConsoleError, Port};
use virtio::{
    Handle,
    conformance::{BUFFERS, Driver},
};
use vmm_sys_util::tempdir::TempDir;

const TELL: usize = 2;
const HEAR: usize = 3;
const DEVICE_READY: u16 = 0;
const ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE: u16 = 4;
const RESIZE: u16 = 5;
const OPEN: u16 = 6;
const NAME: u16 = 7;

/// A console port, and a stream `agent` at one end of a pair of sockets.
fn console() -> (Console, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let agent = Backend::new(ours.try_clone().unwrap()).input(ours).unwrap();
    let ports = vec![Port::console(Backend::null()), Port::stream(agent, "agent")];
    (Console::new(ports).unwrap(), theirs)
}

fn driver(console: Console) -> (Driver, Handle<Console>) {
    let (mut driver, handle) = Driver::with_handle(virtio::mmio(console));
    driver.start(driver.offered());
    (driver, handle)
}

/// The driver says something.
fn say(driver: &mut Driver, port: u32, event: u16, value: u16) {
    let mut message = port.to_le_bytes().to_vec();
    message.extend(event.to_le_bytes());
    message.extend(value.to_le_bytes());
    say_bytes(driver, &message);
}

fn say_bytes(driver: &mut Driver, message: &[u8]) {
    driver.memory().write_slice(message, GuestAddress(BUFFERS)).unwrap();
    let len = u32::try_from(message.len()).unwrap();
    driver.queues[HEAR].offer(&[(BUFFERS, len, false)]);
    driver.kick_and_run(HEAR);
    assert_eq!(driver.queues[HEAR].used().len(), 1);
}

/// What the driver is told next: port, event, value and what follows; `None` if nothing.
fn hear(driver: &mut Driver) -> Option<(u32, u16, u16, Vec<u8>)> {
    // At most one buffer is under way.
    if driver.queues[TELL].offered == driver.queues[TELL].taken {
        driver.queues[TELL].offer(&[(BUFFERS + 0x1000, 0x1000, true)]);
        driver.kick_and_run(TELL);
    }
    driver.run();
    let used = driver.queues[TELL].used();
    let &[(_, len)] = &used[..] else {
        assert!(used.is_empty());
        return None;
    };
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    driver.memory().read_slice(&mut bytes, GuestAddress(BUFFERS + 0x1000)).unwrap();
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    Some((u32::from(word(0)), word(4), word(6), bytes[8..].to_vec()))
}

fn hear_all(driver: &mut Driver) -> Vec<(u32, u16, u16, Vec<u8>)> {
    std::iter::from_fn(|| hear(driver)).collect()
}

/// Both ports ready and open.
fn set_up(driver: &mut Driver) {
    say(driver, 0, DEVICE_READY, 1);
    hear_all(driver);
    for port in [0, 1] {
        say(driver, port, PORT_READY, 1);
        hear_all(driver);
        say(driver, port, OPEN, 1);
    }
}

#[test]
fn ports_are_announced_to_a_driver_that_is_ready_and_described_when_they_are() {
    let (mut driver, handle) = driver(console().0);
    handle.with(|console| console.resize(80, 24));
    assert_eq!(hear(&mut driver), None);
    say(&mut driver, 0, DEVICE_READY, 1);
    assert_eq!(hear_all(&mut driver), [(0, ADD, 0, vec![]), (1, ADD, 0, vec![])]);
    say(&mut driver, 1, PORT_READY, 1);
    assert_eq!(hear_all(&mut driver), [(1, NAME, 1, b"agent".to_vec()), (1, OPEN, 1, vec![])]);
    say(&mut driver, 0, PORT_READY, 1);
    assert_eq!(
        hear_all(&mut driver),
        [(0, CONSOLE, 1, vec![]), (0, RESIZE, 0, vec![80, 0, 24, 0]), (0, OPEN, 1, vec![])]
    );
}

#[test]
fn a_new_size_is_told_once() {
    let (mut driver, handle) = driver(console().0);
    set_up(&mut driver);
    handle.with(|console| console.resize(132, 50));
    assert_eq!(hear_all(&mut driver), [(0, RESIZE, 0, vec![132, 0, 50, 0])]);
    let mut config = [0; 8];
    driver.read_config(0, &mut config);
    assert_eq!(config, [132, 0, 50, 0, 2, 0, 0, 0]);
}

#[test]
fn the_driver_of_a_plain_console_is_told_its_size_by_the_configuration() {
    let plain = Console::new(vec![Port::console(Backend::null())]).unwrap();
    let (mut driver, handle) = driver(plain);
    let raised = driver.raised();
    handle.with(|console| console.resize(100, 30));
    driver.run();
    assert_eq!(driver.raised(), raised + 1);
    let mut config = [0; 4];
    driver.read_config(0, &mut config);
    assert_eq!(config, [100, 0, 30, 0]);
    assert_eq!(driver.queues.len(), 2);
}

#[test]
fn each_port_has_its_own_queues() {
    let (console, mut agent) = console();
    let (mut driver, _handle) = driver(console);
    set_up(&mut driver);
    driver.memory().write_slice(b"ping", GuestAddress(BUFFERS)).unwrap();
    driver.queues[5].offer(&[(BUFFERS, 4, false)]);
    driver.kick_and_run(5);
    let mut seen = [0; 4];
    agent.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"ping");
    agent.write_all(b"pong!").unwrap();
    driver.queues[4].offer(&[(BUFFERS, 100, true)]);
    driver.kick_and_run(4);
    assert_eq!(driver.queues[4].used().last().unwrap().1, 5);
}

#[test]
fn input_waits_until_a_program_has_the_port_open() {
    let (console, mut agent) = console();
    let (mut driver, _handle) = driver(console);
    set_up(&mut driver);
    say(&mut driver, 1, OPEN, 0);
    agent.write_all(b"early").unwrap();
    driver.queues[4].offer(&[(BUFFERS + 0x2000, 100, true)]);
    driver.kick_and_run(4);
    assert_eq!(driver.queues[4].used(), []);
    say(&mut driver, 1, OPEN, 1);
    assert_eq!(driver.queues[4].used().last().unwrap().1, 5);
}

#[test]
fn a_port_that_is_set_up_again_is_described_again() {
    let (mut driver, _handle) = driver(console().0);
    say(&mut driver, 0, DEVICE_READY, 1);
    hear_all(&mut driver);
    for _ in 0..2 {
        // Nothing waits for what is told next.
        driver.reset_queue(TELL);
        driver.queues[TELL].events = true;
        assert!(driver.enable(TELL));
        say(&mut driver, 1, PORT_READY, 1);
        assert_eq!(hear_all(&mut driver), [(1, NAME, 1, b"agent".to_vec()), (1, OPEN, 1, vec![])]);
    }
}

#[test]
fn a_state_of_a_console_with_other_ports_is_refused() {
    use device::Persist;

    let port = |name: &str| Port::stream(Backend::null(), name);
    let mut two = Console::new(vec![port("a"), port("b")]).unwrap();
    let mut three = Console::new(vec![port("a"), port("b"), port("c")]).unwrap();
    let error = three.restore(two.save().unwrap()).unwrap_err().to_string();
    assert!(error.contains("2 ports saved; the console has 3"), "{error}");
}

#[test]
fn a_port_is_not_open_before_it_is_ready() {
    let (console, mut agent) = console();
    let (mut driver, _handle) = driver(console);
    say(&mut driver, 0, DEVICE_READY, 1);
    hear_all(&mut driver);
    say(&mut driver, 1, OPEN, 1);
    agent.write_all(b"early").unwrap();
    driver.queues[4].offer(&[(BUFFERS + 0x2000, 100, true)]);
    driver.kick_and_run(4);
    assert_eq!(driver.queues[4].used(), []);
    say(&mut driver, 1, PORT_READY, 1);
    say(&mut driver, 1, OPEN, 1);
    assert_eq!(driver.queues[4].used().last().unwrap().1, 5);
}

#[test]
fn after_a_reset_the_driver_is_told_of_all_ports_anew_once_it_asks() {
    let (mut driver, _handle) = driver(console().0);
    set_up(&mut driver);
    driver.start(driver.offered());
    assert_eq!(hear(&mut driver), None);
    say(&mut driver, 0, DEVICE_READY, 1);
    assert_eq!(hear_all(&mut driver), [(0, ADD, 0, vec![]), (1, ADD, 0, vec![])]);
}

#[test]
fn a_port_that_is_not_read_holds_no_other_port_back() {
    let (console, _agent) = console();
    let (mut driver, _handle) = driver(console);
    set_up(&mut driver);
    driver.queues[5].offer(&[(BUFFERS, 400_000, false)]);
    driver.kick_and_run(5);
    assert_eq!(driver.queues[5].used(), []);
    driver.queues[1].offer(&[(BUFFERS, 100, false)]);
    driver.kick_and_run(1);
    assert_eq!(driver.queues[1].used().len(), 1);
}

#[test]
fn the_guest_is_told_when_clients_of_a_socket_come_and_go() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("agent");
    let agent = Backend::unix_socket(&path).unwrap();
    let (mut driver, _handle) = driver(Console::new(vec![Port::stream(agent, "agent")]).unwrap());
    say(&mut driver, 0, DEVICE_READY, 1);
    hear_all(&mut driver);
    say(&mut driver, 0, PORT_READY, 1);
    assert_eq!(hear_all(&mut driver), [(0, NAME, 1, b"agent".to_vec())]);
    say(&mut driver, 0, OPEN, 1);
    driver.queues[0].offer(&[(BUFFERS, 100, true)]);
    driver.kick_and_run(0);
    for _ in 0..2 {
        let client = UnixStream::connect(&path).unwrap();
        driver.run();
        assert_eq!(hear(&mut driver), Some((0, OPEN, 1, vec![])));
        drop(client);
        driver.run();
        assert_eq!(hear(&mut driver), Some((0, OPEN, 0, vec![])));
    }
}

#[test]
fn messages_that_make_no_sense_change_nothing() {
    let (mut driver, _handle) = driver(console().0);
    for (port, event) in [(0, PORT_READY), (1, OPEN), (0, ADD), (0, RESIZE), (7, 999)] {
        say(&mut driver, port, event, 1);
        assert_eq!(hear(&mut driver), None, "port {port} event {event}");
    }
    for len in 1..8 {
        say_bytes(&mut driver, &[0; 7][..len]);
        assert_eq!(hear(&mut driver), None);
    }
    set_up(&mut driver);
    for port in [2, 31, 32, u32::MAX] {
        for event in [PORT_READY, OPEN] {
            say(&mut driver, port, event, 1);
            assert_eq!(hear(&mut driver), None, "port {port}");
        }
    }
}

#[test]
fn a_flood_of_messages_is_answered_as_one_is() {
    let (mut driver, _handle) = driver(console().0);
    for _ in 0..1000 {
        say(&mut driver, 0, DEVICE_READY, 1);
    }
    assert_eq!(hear_all(&mut driver).len(), 2);
    for _ in 0..1000 {
        say(&mut driver, 1, PORT_READY, 1);
    }
    // The name went into the buffer that was waiting; then there is all of it to say once more.
    assert_eq!(hear_all(&mut driver).len(), 3);
}

#[test]
fn a_message_waits_for_a_buffer_that_it_fits_in() {
    let (mut driver, _handle) = driver(console().0);
    say(&mut driver, 0, DEVICE_READY, 1);
    for room in [1, 7] {
        driver.queues[TELL].offer(&[(BUFFERS, room, true)]);
        driver.kick_and_run(TELL);
        assert_eq!(driver.queues[TELL].used().last().unwrap().1, 0);
    }
    assert_eq!(hear_all(&mut driver).len(), 2);
}

#[test]
fn what_is_to_be_told_survives_a_snapshot_and_what_was_told_is_not_repeated() {
    let (mut driver, _handle) = driver(console().0);
    say(&mut driver, 0, DEVICE_READY, 1);
    hear_all(&mut driver);
    say(&mut driver, 1, PORT_READY, 1);
    assert_eq!(hear(&mut driver), Some((1, NAME, 1, b"agent".to_vec())));
    let (console, _agent) = console();
    let mut driver = driver.transplant(virtio::mmio(console));
    driver.run();
    assert_eq!(hear_all(&mut driver), [(1, OPEN, 1, vec![])]);
}

#[test]
fn a_driver_that_knows_of_one_port_has_the_first() {
    let (mut driver, _handle) = driver(console().0);
    driver.start(driver.offered() & !2);
    driver.queues[1].offer(&[(BUFFERS, 100, false)]);
    driver.kick_and_run(1);
    assert_eq!(driver.queues[1].used().len(), 1);
    assert_eq!(hear(&mut driver), None);
}

#[test]
fn consoles_that_cannot_be_are_refused_with_what_is_wrong() {
    let stream = |name: &str| Port::stream(Backend::null(), name);
    let refusal = |ports: Vec<Port>| Console::new(ports).unwrap_err().to_string();
    assert_eq!(refusal(Vec::new()), "0 ports; a console has 1 to 31");
    assert!(refusal((0..32).map(|port| stream(&port.to_string())).collect()).contains("32 ports"));
    for name in ["", "a/b", "a\nb", &"x".repeat(129)] {
        let error = Console::new(vec![stream(name)]).unwrap_err();
        assert!(matches!(error, ConsoleError::Name(_)), "{error}");
    }
    let same = refusal(vec![stream("a"), stream("b"), stream("a")]);
    assert_eq!(same, "two ports are named `a`; give one of them another name");
}
