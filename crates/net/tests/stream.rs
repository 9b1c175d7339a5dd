//! Packets over a stream socket, with peers of every kind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    thread,
};

use purlin_net::{Link, MAX_PACKET, MIN_PACKET, Offloads, Stream};

fn link() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Stream::new(ours).unwrap(), theirs)
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&u32::try_from(packet.len()).unwrap().to_be_bytes(), packet].concat()
}

fn packet(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect()
}

fn blocked(link: &mut Stream) -> bool {
    link.peek().unwrap_err().kind() == ErrorKind::WouldBlock
}

#[test]
fn a_packet_goes_after_its_length() {
    let (mut link, mut peer) = link();
    link.send(b"fourteen bytes").unwrap();
    let mut come = [0; 18];
    peer.read_exact(&mut come).unwrap();
    assert_eq!(&come, b"\0\0\0\x0efourteen bytes");
}

#[test]
fn several_packets_in_one_piece_come_one_by_one() {
    let (mut link, mut peer) = link();
    peer.write_all(&[framed(b"one"), framed(b"two"), framed(b"three")].concat()).unwrap();
    for expected in ["one", "two", "three"] {
        assert_eq!(link.peek().unwrap(), expected.as_bytes());
        assert_eq!(link.peek().unwrap(), expected.as_bytes());
        link.pop();
    }
    assert!(blocked(&mut link));
    link.pop();
    assert!(blocked(&mut link) && link.is_up());
}

#[test]
fn a_packet_in_the_smallest_pieces_comes_whole() {
    let (mut link, mut peer) = link();
    for byte in framed(b"slowly") {
        assert!(blocked(&mut link));
        peer.write_all(&[byte]).unwrap();
    }
    assert_eq!(link.peek().unwrap(), b"slowly");
}

#[test]
fn packets_of_every_size_cross_the_room_s_end_unharmed() {
    let (mut link, mut peer) = link();
    let sizes = [1, 60, 1514, MAX_PACKET, 9000, 2, MAX_PACKET, MAX_PACKET, 40_000, 3, 65_000];
    let writer = thread::spawn(move || {
        for (size, seed) in sizes.iter().cycle().take(200).zip((0..=u8::MAX).cycle()) {
            peer.write_all(&framed(&packet(*size, seed))).unwrap();
        }
        peer
    });
    for (size, seed) in sizes.iter().cycle().take(200).zip((0..=u8::MAX).cycle()) {
        loop {
            match link.peek() {
                Ok(come) => break assert!(come == packet(*size, seed), "{size} bytes"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            thread::yield_now();
        }
        link.pop();
    }
    drop(writer.join().unwrap());
}

#[test]
fn what_a_full_socket_took_in_part_is_finished_first() {
    let (mut link, mut peer) = link();
    let mut sent = 0_u8;
    let error = loop {
        match link.send(&packet(60_000, sent)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(link.flush().unwrap_err().kind(), ErrorKind::WouldBlock);
    let reader = thread::spawn(move || {
        for seed in 0..sent {
            let mut come = vec![0; 60_004];
            peer.read_exact(&mut come).unwrap();
            assert!(come == framed(&packet(60_000, seed)), "packet {seed}");
        }
        peer
    });
    while link.flush().is_err() {
        thread::yield_now();
    }
    let mut peer = reader.join().unwrap();
    link.send(b"and goes on ..").unwrap();
    let mut come = [0; 18];
    peer.read_exact(&mut come).unwrap();
    assert_eq!(&come[4..], b"and goes on ..");
}

#[test]
fn lengths_that_no_packet_has_take_the_link_down() {
    for len in [0, u32::try_from(MAX_PACKET).unwrap() + 1, 1 << 17, u32::MAX] {
        let (mut link, mut peer) = link();
        peer.write_all(&framed(b"good")).unwrap();
        peer.write_all(&len.to_be_bytes()).unwrap();
        peer.write_all(&[0; 100]).unwrap();
        assert_eq!(link.peek().unwrap(), b"good");
        link.pop();
        assert_eq!(link.peek().unwrap_err().kind(), ErrorKind::InvalidData, "length {len}");
        assert!(!link.is_up());
        assert_eq!(link.peek().unwrap_err().kind(), ErrorKind::NotConnected);
        assert!(link.send(&[0; 60]).is_err());
        // The peer sees the end, too.
        assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn a_peer_that_goes_takes_the_link_down_and_nothing_else() {
    let (mut link, mut peer) = link();
    peer.write_all(&[0, 0, 0, 9, 1]).unwrap();
    drop(peer);
    // No signal ends this process.
    assert!(link.send(&[0; 60]).is_err());
    assert!(!link.is_up());
    assert!(link.flush().is_ok());

    let (mut link, peer) = self::link();
    drop(peer);
    assert_eq!(link.peek().unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(!link.is_up());
}

#[test]
fn what_is_no_packet_is_not_sent() {
    let (mut link, _peer) = link();
    for len in [0, MIN_PACKET - 1, MAX_PACKET + 1] {
        let error = link.send(&vec![0; len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{len} bytes");
    }
    assert!(link.is_up());
    assert!(link.set_offloads(Offloads::ALL).is_err());
}

#[test]
fn a_listening_peer_is_connected_to_and_a_missing_one_named() {
    let path = std::env::temp_dir().join(format!("purlin-net-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let mut link = Stream::connect(&path).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    peer.write_all(&framed(b"hello")).unwrap();
    assert_eq!(link.peek().unwrap(), b"hello");
    let error = Stream::connect(&path).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("passt"), "{error}");
}
