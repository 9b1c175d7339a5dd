//! Data, credit, and the end of each direction.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use crate::guest::{
    CREDIT_REQUEST, CREDIT_UPDATE, Guest, Packet, RECEIVE, RESPONSE, RST, RW, SEND, SHUTDOWN,
    pattern,
};
use purlin_virtio_vsock::{Patience, VsockConfig};

const PORT: u32 = 1000;
const SERVICE: u32 = 52;
/// Sizes that fit nothing.
const SIZES: [usize; 8] = [1, 2, 3, 43, 4097, 65_535, 65_537, 100_003];

fn connected() -> (Guest, UnixStream) {
    let mut guest = Guest::new();
    let listener = guest.listen(SERVICE);
    let host = guest.connect(PORT, SERVICE, &listener);
    (guest, host)
}

/// The host is done both ways, which may be said in one packet or in two.
fn expect_end(guest: &mut Guest) {
    let flags = guest.expect(SHUTDOWN, SERVICE, PORT).flags;
    if flags != SEND | RECEIVE {
        assert_eq!(flags, SEND);
        assert_eq!(guest.expect(SHUTDOWN, SERVICE, PORT).flags, SEND | RECEIVE);
    }
}

fn data(bytes: &[u8]) -> Packet {
    Packet::data(RW, PORT, SERVICE, bytes)
}

fn is_empty(stream: &mut UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0; 1]);
    stream.set_nonblocking(false).unwrap();
    matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn what_the_guest_sends_arrives_whatever_its_size() {
    let (mut guest, mut host) = connected();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let sent = pattern(size, seed);
        let expected = sent.clone();
        let reader = thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            host.read_exact(&mut got).unwrap();
            assert!(got == expected);
            host
        });
        guest.send(&data(&sent));
        guest.run_until("the host has it", |_| reader.is_finished());
        host = reader.join().unwrap();
        assert!(is_empty(&mut host));
    }
}

#[test]
fn what_the_host_sends_arrives_whatever_its_size() {
    let (mut guest, mut host) = connected();
    let mut received = 0;
    for (seed, size) in SIZES.into_iter().enumerate() {
        let sent = pattern(size, seed);
        let expected = sent.clone();
        let writer = thread::spawn(move || {
            host.write_all(&sent).unwrap();
            host
        });
        let mut got = Vec::new();
        while got.len() < size {
            let packet = guest.recv_soon();
            match packet.op {
                RW => {
                    received += u32::try_from(packet.data.len()).unwrap();
                    got.extend(packet.data);
                }
                CREDIT_REQUEST => {}
                _ => panic!("{packet:?}"),
            }
            let update = Packet::new(CREDIT_UPDATE, PORT, SERVICE);
            guest.send(&Packet { fwd_cnt: received, ..update });
        }
        assert!(got == expected);
        host = writer.join().unwrap();
    }
    guest.expect_nothing();
}

#[test]
fn a_guest_without_credit_is_sent_nothing_and_asked_once() {
    let (mut guest, mut host) = connected();
    host.write_all(&pattern(0x1_0000, 0)).unwrap();
    let mut got = 0;
    while got < 0x1_0000 {
        got += guest.expect(RW, SERVICE, PORT).data.len();
    }
    guest.expect(CREDIT_REQUEST, SERVICE, PORT);
    guest.expect_nothing();
    host.write_all(b"more").unwrap();
    guest.expect_nothing();
    host.write_all(b"and more").unwrap();
    guest.expect_nothing();
    // Five bytes: as much as there is credit for, and no more.
    let update = Packet::new(CREDIT_UPDATE, PORT, SERVICE);
    guest.send(&Packet { fwd_cnt: 5, ..update.clone() });
    assert_eq!(guest.expect(RW, SERVICE, PORT).data, b"morea");
    guest.expect(CREDIT_REQUEST, SERVICE, PORT);
    guest.expect_nothing();
    guest.send(&Packet { fwd_cnt: 0x1_0005, ..update });
    assert_eq!(guest.expect(RW, SERVICE, PORT).data, b"nd more");
}

#[test]
fn nonsense_about_credit_gives_none() {
    let (mut guest, mut host) = connected();
    let update = Packet::new(CREDIT_UPDATE, PORT, SERVICE);
    for fwd_cnt in [1, 0x1_0000, 1 << 31, u32::MAX] {
        guest.send(&Packet { fwd_cnt, buf_alloc: u32::MAX, ..update.clone() });
    }
    host.write_all(&pattern(0x1_0000, 0)).unwrap();
    let mut got = 0;
    while got < 0x1_0000 {
        got += guest.expect(RW, SERVICE, PORT).data.len();
    }
    host.write_all(b"x").unwrap();
    guest.expect(CREDIT_REQUEST, SERVICE, PORT);
    // A guest whose room has become smaller than what is in it.
    guest.send(&Packet { buf_alloc: 1, ..update.clone() });
    guest.expect_nothing();
    guest.send(&Packet { fwd_cnt: 0x1_0000, buf_alloc: 1, ..update });
    assert_eq!(guest.expect(RW, SERVICE, PORT).data, b"x");
}

/// Sends until the guest's credit is used up: what was sent.
fn send_all_credit(guest: &mut Guest) -> Vec<u8> {
    guest.send(&Packet::new(CREDIT_REQUEST, PORT, SERVICE));
    let told = guest.expect(CREDIT_UPDATE, SERVICE, PORT);
    let mut credit = usize::try_from(told.buf_alloc).unwrap();
    let mut sent = Vec::new();
    let mut fwd_cnt = told.fwd_cnt;
    while credit > 0 {
        let bytes = pattern(credit.min(60_001), sent.len());
        guest.send(&data(&bytes));
        credit -= bytes.len();
        sent.extend(bytes);
        while let Some(packet) = guest.recv() {
            assert_eq!(packet.op, CREDIT_UPDATE, "{packet:?}");
            credit += usize::try_from(packet.fwd_cnt.wrapping_sub(fwd_cnt)).unwrap();
            fwd_cnt = packet.fwd_cnt;
        }
    }
    sent
}

#[test]
fn a_slow_reader_holds_its_own_connection_only() {
    let mut guest = Guest::new();
    let listener = guest.listen(SERVICE);
    let mut slow = guest.connect(PORT, SERVICE, &listener);
    let mut quick = guest.connect(PORT + 1, SERVICE, &listener);
    let sent = send_all_credit(&mut guest);
    assert!(sent.len() > 256 << 10);

    guest.send(&Packet::data(RW, PORT + 1, SERVICE, b"quick"));
    let mut said = [0; 5];
    quick.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"quick");

    let expected = sent.clone();
    let reader = thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        slow.read_exact(&mut got).unwrap();
        assert!(got == expected);
        slow
    });
    guest.run_until("the slow one has everything", |_| reader.is_finished());
    let mut slow = reader.join().unwrap();
    let mut fwd_cnt = 0;
    while let Some(packet) = guest.recv() {
        assert_eq!((packet.op, packet.dst.1), (CREDIT_UPDATE, PORT));
        fwd_cnt = packet.fwd_cnt;
    }
    assert!(usize::try_from(fwd_cnt).unwrap() > sent.len() / 2);
    guest.send(&data(b"again"));
    slow.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"again");
}

#[test]
fn what_comes_later_arrives_later_even_if_there_is_room_by_then() {
    let (mut guest, mut host) = connected();
    // More than a socket takes, less than the guest has credit for.
    let sent = pattern(240 << 10, 0);
    sent.chunks(60_000).for_each(|chunk| guest.send(&data(chunk)));
    let mut first = vec![0; 100_000];
    host.read_exact(&mut first).unwrap();
    guest.send(&data(b"last"));
    let expected = [&sent[first.len()..], b"last"].concat();
    let reader = thread::spawn(move || {
        let mut rest = vec![0; expected.len()];
        host.read_exact(&mut rest).unwrap();
        assert!(rest == expected);
    });
    guest.run_until("the host has everything", |_| reader.is_finished());
    reader.join().unwrap();
    assert!(sent.starts_with(&first));
}

#[test]
fn what_was_for_a_program_that_died_is_no_longer_on_the_guests_account() {
    let (mut guest, host) = connected();
    let sent = send_all_credit(&mut guest);
    drop(host);
    let end = guest.expect(SHUTDOWN, SERVICE, PORT);
    assert_eq!((end.flags, end.fwd_cnt), (RECEIVE, u32::try_from(sent.len()).unwrap()));
    guest.expect(RST, SERVICE, PORT);
}

#[test]
fn a_guest_that_sends_without_credit_loses_the_connection_and_no_byte_before() {
    let (mut guest, mut host) = connected();
    let sent = send_all_credit(&mut guest);
    guest.send(&data(b"x"));
    guest.expect(RST, SERVICE, PORT);
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        host.read_to_end(&mut got).unwrap();
        assert!(got == sent);
    });
    guest.run_until("the host has everything", |_| reader.is_finished());
    reader.join().unwrap();
    guest.run_until("it is forgotten", |guest| guest.connections() == 0);
}

#[test]
fn the_host_may_end_its_direction_first() {
    let (mut guest, mut host) = connected();
    host.write_all(b"last words").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.expect(RW, SERVICE, PORT).data, b"last words");
    assert_eq!(guest.expect(SHUTDOWN, SERVICE, PORT).flags, SEND);
    guest.expect_nothing();
    // The other direction goes on.
    guest.send(&data(b"an answer"));
    let mut said = [0; 9];
    host.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"an answer");
    drop(host);
    expect_end(&mut guest);
    guest.send(&Packet::new(RST, PORT, SERVICE));
    assert_eq!(guest.connections(), 0);
    guest.expect_nothing();
}

#[test]
fn the_guest_may_end_its_direction_first() {
    let (mut guest, mut host) = connected();
    guest.send(&data(b"last words"));
    guest.send(&Packet { flags: SEND, ..Packet::new(SHUTDOWN, PORT, SERVICE) });
    let mut said = Vec::new();
    host.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"last words");
    host.write_all(b"an answer").unwrap();
    assert_eq!(guest.expect(RW, SERVICE, PORT).data, b"an answer");
    drop(host);
    assert_eq!(guest.expect(SHUTDOWN, SERVICE, PORT).flags & SEND, SEND);
    guest.send(&Packet { flags: RECEIVE, ..Packet::new(SHUTDOWN, PORT, SERVICE) });
    guest.run_until("it is over", |guest| {
        while guest.recv().is_some() {}
        guest.connections() == 0
    });
}

#[test]
fn the_end_of_what_a_slow_reader_still_has_to_get_comes_after_it() {
    let (mut guest, mut host) = connected();
    let sent = send_all_credit(&mut guest);
    guest.send(&Packet { flags: SEND, ..Packet::new(SHUTDOWN, PORT, SERVICE) });
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        host.read_to_end(&mut got).unwrap();
        assert!(got == sent);
        host
    });
    guest.run_until("the host has everything and its end", |_| reader.is_finished());
    let mut host = reader.join().unwrap();
    assert_eq!(guest.connections(), 1, "the other direction goes on");
    host.write_all(b"an answer").unwrap();
    let packet = guest.recv_soon();
    let packet = if packet.op == CREDIT_UPDATE { guest.recv_soon() } else { packet };
    assert_eq!(packet.data, b"an answer");
}

#[test]
fn a_guest_that_reads_no_more_breaks_the_hosts_pipe() {
    let (mut guest, mut host) = connected();
    guest.send(&Packet { flags: RECEIVE, ..Packet::new(SHUTDOWN, PORT, SERVICE) });
    assert_eq!(host.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    guest.send(&data(b"but it talks"));
    let mut said = [0; 12];
    host.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"but it talks");
    guest.expect_nothing();
    drop(host);
    expect_end(&mut guest);
}

#[test]
fn a_guest_that_has_closed_is_told_so_at_once_and_loses_nothing() {
    let (mut guest, mut host) = connected();
    std::fs::remove_file(guest.scratch.path("v_52")).unwrap();
    let sent = send_all_credit(&mut guest);
    guest.send(&Packet { flags: SEND | RECEIVE, ..Packet::new(SHUTDOWN, PORT, SERVICE) });
    guest.expect(RST, SERVICE, PORT);
    assert_eq!(guest.connections(), 1, "the host has not read everything");
    // Its ports can be used again.
    let _listener = guest.listen(SERVICE);
    guest.send(&Packet::new(crate::guest::REQUEST, PORT, SERVICE));
    guest.expect(RESPONSE, SERVICE, PORT);
    assert_eq!(guest.connections(), 2);
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        host.read_to_end(&mut got).unwrap();
        assert!(got == sent);
    });
    guest.run_until("the host has everything", |_| reader.is_finished());
    reader.join().unwrap();
    guest.run_until("it is forgotten", |guest| guest.connections() == 1);
}

#[test]
fn a_host_program_that_dies_with_unread_data_resets_the_connection() {
    let (mut guest, host) = connected();
    guest.send(&data(b"never read"));
    drop(host);
    guest.expect(RST, SERVICE, PORT);
    assert_eq!(guest.connections(), 0);
    // What was under way.
    guest.send(&data(b"more"));
    guest.expect(RST, SERVICE, PORT);
}

#[test]
fn a_host_that_reads_no_more_takes_nothing_and_the_guest_hears_of_it() {
    let (mut guest, mut host) = connected();
    host.shutdown(Shutdown::Read).unwrap();
    guest.send(&data(b"for nobody"));
    assert_eq!(guest.expect(SHUTDOWN, SERVICE, PORT).flags, RECEIVE);
    guest.send(&data(b"for nobody"));
    host.write_all(b"still here").unwrap();
    assert_eq!(guest.expect(RW, SERVICE, PORT).data, b"still here");
}

#[test]
fn a_guest_that_never_confirms_the_end_is_reset() {
    let patience = Patience { farewell: Duration::from_millis(30), ..Patience::default() };
    let mut guest = Guest::with(VsockConfig { patience, ..VsockConfig::default() });
    let listener = guest.listen(SERVICE);
    drop(guest.connect(PORT, SERVICE, &listener));
    expect_end(&mut guest);
    guest.expect(RST, SERVICE, PORT);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn what_was_under_way_when_the_guest_was_told_of_the_end_does_no_harm() {
    let (mut guest, host) = connected();
    drop(host);
    expect_end(&mut guest);
    guest.send(&data(b"too late"));
    guest.send(&Packet::new(CREDIT_REQUEST, PORT, SERVICE));
    guest.expect_nothing();
    guest.send(&Packet { flags: SEND | RECEIVE, ..Packet::new(SHUTDOWN, PORT, SERVICE) });
    guest.expect(RST, SERVICE, PORT);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_program_that_is_killed_leaves_nothing_behind() {
    let (mut guest, host) = connected();
    drop(host);
    guest.send(&Packet::new(RST, PORT, SERVICE));
    guest.run_until("it is forgotten", |guest| guest.connections() == 0);
    guest.expect_nothing();
}

#[test]
fn connections_take_turns() {
    let mut guest = Guest::new();
    let listener = guest.listen(SERVICE);
    let ports = [PORT, PORT + 1, PORT + 2];
    let mut hosts = ports.map(|port| guest.connect(port, SERVICE, &listener));
    // Each packet takes all the credit, and has a host program with more to say behind it.
    let credit = |port, fwd_cnt| {
        let update = Packet::new(CREDIT_UPDATE, port, SERVICE);
        Packet { fwd_cnt, buf_alloc: 1000, ..update }
    };
    ports.iter().for_each(|port| guest.send(&credit(*port, 0)));
    hosts.iter_mut().for_each(|host| host.write_all(&[0; 5000]).unwrap());
    guest.driver.run();
    let mut turns = Vec::new();
    for round in 1..=5 {
        for _ in ports {
            let packet = guest.recv_soon();
            assert_eq!((packet.op, packet.data.len()), (RW, 1000), "{packet:?}");
            turns.push(packet.dst.1);
            guest.send(&credit(packet.dst.1, round * 1000));
        }
    }
    let order = &turns[..3];
    assert!(ports.iter().all(|port| order.contains(port)), "{turns:?}");
    assert_eq!(turns, order.repeat(5));
}
