//! What every virtio device must do.
#![expect(clippy::unwrap_used, reason = "test code")]

use legacy::Backend;
use purlin_virtio_console::{Console, MAX_PORTS, Port};
use virtio::conformance::{self, Request};

fn plain() -> Console {
    Console::new(vec![Port::console(Backend::null())]).unwrap()
}

fn several() -> Console {
    let mut console = Console::new(vec![
        Port::console(Backend::null()),
        Port::stream(Backend::null(), "one"),
        Port::console(Backend::pty().unwrap()).named("two"),
    ])
    .unwrap();
    console.resize(80, 24);
    console
}

#[test]
fn a_plain_console_conforms() {
    conformance::device(plain);
}

#[test]
fn a_console_of_several_ports_conforms() {
    conformance::device(several);
}

#[test]
fn a_console_of_as_many_ports_as_there_can_be_is_one() {
    let ports = (0..MAX_PORTS).map(|port| Port::stream(Backend::null(), port.to_string()));
    let console = Console::new(ports.collect()).unwrap();
    let driver = conformance::Driver::new(virtio::mmio(console));
    assert_eq!(driver.queues.len(), 64);
}

#[test]
fn output_and_control_messages_are_answered_with_nothing() {
    for (queue, readable) in [(1, b"hello".to_vec()), (3, vec![1; 8]), (5, vec![7; 5000])] {
        let request = Request { queue, readable, room: 0, answer: None, len: 0 };
        conformance::serves(several, &request);
    }
}
