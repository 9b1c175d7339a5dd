//! Connections are made and refused, from both sides.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use crate::guest::{Guest, HOST, Packet, REQUEST, RESPONSE, RST, RW, SHUTDOWN, Scratch};
use purlin_virtio_vsock::{BindError, Endpoint, Patience, Vsock, VsockConfig};

fn impatient() -> VsockConfig {
    let short = Duration::from_millis(50);
    let patience = Patience { greeting: short, answer: short, farewell: short };
    VsockConfig { patience, ..VsockConfig::default() }
}

fn is_closed(stream: &mut impl Read) -> bool {
    matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_))
}

#[test]
fn the_guest_talks_to_who_listens() {
    let mut guest = Guest::new();
    let listener = guest.listen(52);
    guest.send(&Packet::new(REQUEST, 1000, 52));
    let response = guest.expect(RESPONSE, 52, 1000);
    assert_eq!((response.src.0, response.kind, response.fwd_cnt), (HOST, 1, 0));
    assert!(response.buf_alloc >= 0x1_0000);
    let (mut host, _) = listener.accept().unwrap();

    guest.send(&Packet::data(RW, 1000, 52, b"hello from inside"));
    let mut said = [0; 17];
    host.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello from inside");
    host.write_all(b"hello from outside").unwrap();
    assert_eq!(guest.expect(RW, 52, 1000).data, b"hello from outside");
    guest.expect_nothing();
}

#[test]
fn the_guest_is_refused_where_nobody_listens() {
    let mut guest = Guest::new();
    guest.send(&Packet::new(REQUEST, 1000, 52));
    let reset = guest.expect(RST, 52, 1000);
    assert_eq!((reset.src.0, reset.kind), (HOST, 1));
    // A socket that was left behind.
    drop(guest.listen(53));
    guest.send(&Packet::new(REQUEST, 1000, 53));
    guest.expect(RST, 53, 1000);
    std::fs::write(guest.scratch.path("v_54"), "no socket").unwrap();
    guest.send(&Packet::new(REQUEST, 1000, 54));
    guest.expect(RST, 54, 1000);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_listener_whose_queue_is_full_refuses_instead_of_blocking() {
    let mut guest = Guest::new();
    let listener = guest.listen(52);
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    guest.send(&Packet::new(REQUEST, 1000, 52));
    guest.expect(RESPONSE, 52, 1000);
    let mut refused = false;
    for port in 1001..1100 {
        guest.send(&Packet::new(REQUEST, port, 52));
        refused |= guest.recv_soon().op == RST;
    }
    assert!(refused);
}

#[test]
fn the_host_talks_to_the_guest() {
    let mut guest = Guest::new();
    let (mut host, port) = guest.accept(52);
    assert!(port >= 1 << 30);
    guest.send(&Packet::data(RW, 52, port, b"hello from inside"));
    let mut said = [0; 17];
    host.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello from inside");
    host.get_mut().write_all(b"hello from outside").unwrap();
    assert_eq!(guest.expect(RW, port, 52).data, b"hello from outside");
}

#[test]
fn two_host_programs_have_ports_of_their_own() {
    let mut guest = Guest::new();
    let ((_first, first), (_second, second)) = (guest.accept(52), guest.accept(52));
    assert_ne!(first, second);
    assert_eq!(guest.connections(), 2);
}

#[test]
fn a_guest_that_refuses_closes_the_hosts_connection() {
    let mut guest = Guest::new();
    let mut host = guest.dial("CONNECT 52\n");
    let port = guest.recv_soon().src.1;
    guest.send(&Packet::new(RST, 52, port));
    assert!(is_closed(&mut host));
    assert_eq!(guest.connections(), 0);
    guest.expect_nothing();
}

#[test]
fn a_guest_that_does_not_answer_loses_the_connection() {
    let mut guest = Guest::with(impatient());
    let mut host = guest.dial("CONNECT 52\n");
    let port = guest.recv_soon().src.1;
    guest.expect(RST, port, 52);
    assert!(is_closed(&mut host));
    assert_eq!(guest.connections(), 0);
    // Too late.
    guest.send(&Packet::new(RESPONSE, 52, port));
    guest.expect(RST, port, 52);
}

#[test]
fn a_guest_that_takes_no_packets_never_hears_of_it() {
    let mut guest = Guest::with(impatient());
    // There is a packet in the only buffer, and none after it.
    guest.send(&Packet::new(REQUEST, 1000, 52));
    guest.driver.run();
    let mut host = guest.dial("CONNECT 52\n");
    host.set_nonblocking(true).unwrap();
    guest.run_until("the host hears", |_| {
        !matches!(host.read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    });
    guest.run_until("it is forgotten", |guest| guest.connections() == 0);
    guest.expect(RST, 52, 1000);
    guest.expect_nothing();
}

#[test]
fn a_host_program_that_talks_nonsense_is_closed() {
    let mut guest = Guest::new();
    for nonsense in ["hello\n", "CONNECT many\n", "CONNECT 4294967296\n", &"x".repeat(1000)] {
        let mut host = guest.dial(nonsense);
        guest.driver.run();
        guest.expect_nothing();
        assert!(is_closed(&mut host), "{nonsense}");
    }
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_host_program_that_says_nothing_is_closed_after_a_while() {
    let mut guest = Guest::with(impatient());
    guest.expect_nothing();
    let mut silent = guest.dial("");
    let mut slow = guest.dial("CONN");
    for host in [&mut silent, &mut slow] {
        host.set_nonblocking(true).unwrap();
        guest.run_until("it is closed", |_| matches!(host.read(&mut [0; 1]), Ok(0)));
    }
}

/// Host programs that connect and say nothing, each accepted if there is room.
fn silent(guest: &mut Guest, count: usize) -> Vec<UnixStream> {
    let dial = |_| {
        let stream = guest.dial("");
        // So that the listener's queue is never full.
        guest.driver.run();
        stream
    };
    (0..count).map(dial).collect()
}

#[test]
fn of_those_who_say_nothing_there_is_a_bound_and_the_others_wait() {
    let mut guest = Guest::new();
    guest.expect_nothing();
    let mut crowd = silent(&mut guest, 256);
    let _host = guest.dial("CONNECT 52\n");
    guest.expect_nothing();
    drop(crowd.pop());
    assert_eq!(guest.recv_soon().op, REQUEST);
}

#[test]
fn those_who_say_nothing_do_not_stay() {
    let mut guest = Guest::with(impatient());
    guest.expect_nothing();
    let _crowd = silent(&mut guest, 300);
    let _host = guest.dial("CONNECT 52\n");
    assert_eq!(guest.recv_soon().op, REQUEST);
}

#[test]
fn a_deadline_is_kept_after_an_earlier_one_was() {
    let patience = Patience {
        greeting: Duration::from_millis(40),
        answer: Duration::from_millis(120),
        ..Patience::default()
    };
    let mut guest = Guest::with(VsockConfig { patience, ..VsockConfig::default() });
    let _host = guest.dial("CONNECT 52\n");
    let port = guest.recv_soon().src.1;
    let mut silent = guest.dial("");
    guest.expect(RST, port, 52);
    assert!(is_closed(&mut silent));
}

#[test]
fn an_earlier_deadline_is_kept_before_a_later_one() {
    let patience = Patience {
        greeting: Duration::from_millis(40),
        answer: Duration::from_secs(3600),
        ..Patience::default()
    };
    let mut guest = Guest::with(VsockConfig { patience, ..VsockConfig::default() });
    let _host = guest.dial("CONNECT 52\n");
    assert_eq!(guest.recv_soon().op, REQUEST);
    let mut silent = guest.dial("");
    silent.set_nonblocking(true).unwrap();
    guest.run_until("it is closed", |_| matches!(silent.read(&mut [0; 1]), Ok(0)));
    assert_eq!(guest.connections(), 1);
}

#[test]
fn who_has_greeted_in_time_may_wait_longer() {
    let greeting = Duration::from_millis(20);
    let patience = Patience { greeting, ..Patience::default() };
    let mut guest = Guest::with(VsockConfig { patience, ..VsockConfig::default() });
    let start = Instant::now();
    let mut host = guest.dial("CONNECT 52\n");
    let port = guest.recv_soon().src.1;
    guest.run_until("time is over for who says nothing", |_| start.elapsed() > greeting * 4);
    guest.send(&Packet::new(RESPONSE, 52, port));
    let mut said = [0; 3];
    host.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"OK ");
}

#[test]
fn data_and_the_end_that_came_with_the_greeting_reach_the_guest() {
    let mut guest = Guest::new();
    drop(guest.dial("CONNECT 52\nfire and forget"));
    let port = guest.recv_soon().src.1;
    guest.send(&Packet::new(RESPONSE, 52, port));
    assert_eq!(guest.expect(RW, port, 52).data, b"fire and forget");
    assert_eq!(guest.expect(SHUTDOWN, port, 52).flags, 3);
    guest.send(&Packet::new(RST, 52, port));
    assert_eq!(guest.connections(), 0);
}

#[test]
fn beyond_the_bound_both_sides_are_refused() {
    let mut guest = Guest::with(VsockConfig { connections: 2, ..VsockConfig::default() });
    let listener = guest.listen(52);
    let kept = guest.connect(1000, 52, &listener);
    let _second = guest.accept(60);
    guest.send(&Packet::new(REQUEST, 1001, 52));
    guest.expect(RST, 52, 1001);
    let mut third = guest.dial("CONNECT 60\n");
    guest.expect_nothing();
    assert!(is_closed(&mut third));

    // A place that is free again can be had.
    drop(kept);
    while guest.expect(SHUTDOWN, 52, 1000).flags != 3 {}
    guest.send(&Packet::new(RST, 1000, 52));
    guest.connect(1001, 52, &listener);
}

#[test]
fn a_path_that_is_taken_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.path("v");
    let first = Endpoint::bind(&path).unwrap();
    let error = Endpoint::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    drop(first);
    assert!(!path.exists());

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Endpoint::bind(&path).unwrap_err();
    assert!(error.to_string().contains(&format!("rm {}", path.display())), "{error}");
    assert!(path.exists());

    let file = scratch.path("file");
    std::fs::write(&file, "precious").unwrap();
    let error = Endpoint::bind(&file).unwrap_err();
    assert!(matches!(error, BindError::Occupied(_)), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    let error = Endpoint::bind(scratch.path(&"x".repeat(100))).unwrap_err();
    assert!(error.to_string().contains("1 to 96 bytes"), "{error}");
    let error = Endpoint::bind(scratch.path("no/such/directory")).unwrap_err();
    assert!(matches!(error, BindError::Host { .. }), "{error}");
}

#[test]
fn a_socket_is_removed_when_dropped_unless_it_is_anothers_by_now() {
    let scratch = Scratch::new();
    let path = scratch.path("v");
    let vsock = Vsock::new(Endpoint::bind(&path).unwrap(), VsockConfig::default()).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(vsock);
    assert!(!path.exists());

    let endpoint = Endpoint::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another's").unwrap();
    drop(endpoint);
    assert!(path.exists());
}

#[test]
fn a_host_program_gets_a_port_that_no_connection_of_the_guest_has() {
    let mut guest = Guest::new();
    let first = 1 << 30;
    let listener = guest.listen(first);
    let mut old = guest.connect(52, first, &listener);
    let (_new, port) = guest.accept(52);
    assert_eq!((port, guest.connections()), (first + 1, 2));
    guest.send(&Packet::data(RW, 52, first, b"still"));
    let mut said = [0; 5];
    old.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"still");
}

#[test]
fn who_waited_for_a_place_has_it_after_a_reset() {
    let mut guest = Guest::new();
    // As many as may make up their mind at a time.
    let mut silent = Vec::new();
    for _ in 0..256 {
        silent.push(guest.dial(""));
        guest.driver.run();
    }
    let _waiting = guest.dial("CONNECT 52\n");
    guest.expect_nothing();
    guest.driver.start(guest.driver.offered());
    guest.offered = false;
    let request = guest.recv_soon();
    assert_eq!((request.op, request.dst.1), (REQUEST, 52));
}
