//! Every kind of request, as a driver makes it and as none should.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod probe;

use std::io::ErrorKind;

use probe::{Call, Guest, IOERR, OK, Probe, SECTORS, UNSUPP, UNTOUCHED, header, segment};
use purlin_virtio_blk::Cache;
use virtio::conformance::BUFFERS;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

#[test]
fn what_is_written_is_read_back_in_bounded_pieces() {
    let mut guest = Guest::plain();
    let data = pattern(200 << 10);
    assert_eq!(guest.status(&[header(OUT, 3), data.clone()]), OK);
    let pieces: Vec<_> = [(0, 64), (64, 64), (128, 64), (192, 8)].into();
    let calls = pieces.iter().map(|(at, len)| Call::Write(1536 + (at << 10), len << 10));
    assert_eq!(guest.probe.calls(), calls.collect::<Vec<_>>());
    assert_eq!(guest.probe.content(1536, data.len()), data);

    let (status, len, read) = guest.ask(&header(IN, 3), 200 << 10);
    assert_eq!((status, len), (OK, (200 << 10) + 1));
    assert_eq!(read, data);
    let calls = pieces.iter().map(|(at, len)| Call::Read(1536 + (at << 10), len << 10));
    assert_eq!(guest.probe.calls(), calls.collect::<Vec<_>>());
}

#[test]
fn the_last_sector_is_there_and_the_one_after_is_not() {
    let mut guest = Guest::plain();
    assert_eq!(guest.ask(&header(IN, SECTORS - 1), 512).0, OK);
    assert_eq!(guest.status(&[header(OUT, SECTORS - 1), pattern(512)]), OK);
    guest.probe.calls();
    for sector in [SECTORS, SECTORS + 1, u64::MAX / 512, u64::MAX / 512 + 1, u64::MAX] {
        let (status, len, room) = guest.ask(&header(IN, sector), 512);
        assert_eq!((status, len), (IOERR, 0), "sector {sector:#x}");
        assert_eq!(room, [0x77; 512], "nothing is written");
        assert_eq!(guest.status(&[header(OUT, sector), pattern(512)]), IOERR);
    }
    assert_eq!(guest.ask(&header(IN, SECTORS - 1), 1024).0, IOERR);
    assert_eq!(guest.status(&[header(OUT, SECTORS - 1), pattern(1024)]), IOERR);
    assert_eq!(guest.probe.calls(), []);
}

#[test]
fn parts_of_sectors_are_refused() {
    let mut guest = Guest::plain();
    for len in [1, 511, 513, 1023] {
        assert_eq!(guest.ask(&header(IN, 0), len).0, IOERR, "reading {len}");
        let data = pattern(usize::try_from(len).unwrap());
        assert_eq!(guest.status(&[header(OUT, 0), data]), IOERR, "writing {len}");
    }
    assert_eq!(guest.probe.calls(), []);
}

#[test]
fn a_request_without_a_whole_header_is_an_error() {
    let mut guest = Guest::plain();
    for len in [0, 1, 8, 15] {
        assert_eq!(guest.status(&[header(IN, 0)[..len].to_vec()]), IOERR, "{len} bytes");
    }
    assert_eq!(guest.probe.calls(), []);
}

#[test]
fn a_request_without_room_for_a_status_is_not_served() {
    let mut guest = Guest::plain();
    guest.driver.queues[0].offer(&[(BUFFERS, 16 + 512, false)]);
    guest.driver.kick_and_run(0);
    assert_eq!(guest.driver.queues[0].used(), [(0, 0)]);
    assert_eq!(guest.probe.calls(), []);
}

#[test]
fn unknown_requests_are_unsupported() {
    let mut guest = Guest::plain();
    for kind in [2, 3, 5, 7, 9, 10, 12, 14, 0x100, 0x8000_0000, u32::MAX] {
        assert_eq!(guest.status(&[header(kind, 0)]), UNSUPP, "type {kind:#x}");
    }
    assert_eq!(guest.ask(&header(6, 0), 4096).0, UNSUPP);
    assert_eq!(guest.probe.calls(), []);
}

#[test]
fn a_disk_says_which_it_is() {
    let mut guest = Guest::plain();
    let (status, len, identity) = guest.ask(&header(GET_ID, 0), 20);
    assert_eq!((status, len), (OK, 21));
    assert_eq!(&identity, b"a-probe\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(guest.ask(&header(GET_ID, 0), 19).0, IOERR);
    // A gap before the status: the length ends with the identity.
    let (status, len, identity) = guest.ask(&header(GET_ID, 0), 24);
    assert_eq!((status, len, &identity[20..]), (OK, 20, &[0x77; 4][..]));
}

#[test]
fn a_read_only_disk_is_read_and_never_changed() {
    let mut probe = Probe::new();
    probe.read_only = true;
    let mut guest = Guest::new(probe, Cache::default(), 0);
    let offered = guest.driver.offered();
    let writable = 1 << 9 | 1 << 11 | 1 << 13 | 1 << 14;
    assert_eq!((offered & 1 << 5, offered & writable), (1 << 5, 0));
    assert_eq!(guest.status(&[header(OUT, 0), pattern(512)]), IOERR);
    assert_eq!(guest.status(&[header(DISCARD, 0), segment(0, 8, 0)]), UNSUPP);
    assert_eq!(guest.status(&[header(WRITE_ZEROES, 0), segment(0, 8, 0)]), UNSUPP);
    assert_eq!(guest.probe.calls(), []);
    assert_eq!(guest.ask(&header(IN, 0), 512).0, OK);
}

#[test]
fn blocks_are_discarded_and_zeroed() {
    let mut guest = Guest::plain();
    let ranges = [segment(8, 8, 0), segment(SECTORS - 1, 1, 0), segment(0, 0, 0)].concat();
    assert_eq!(guest.status(&[header(DISCARD, 0), ranges]), OK);
    let calls = [(4096, 4096), ((SECTORS - 1) * 512, 512), (0, 0)];
    assert_eq!(guest.probe.calls(), calls.map(|(at, len)| Call::Discard(at, len)));
    for (flags, unmap) in [(0, false), (1, true)] {
        assert_eq!(guest.status(&[header(WRITE_ZEROES, 0), segment(1, 2, flags)]), OK);
        assert_eq!(guest.probe.calls(), [Call::WriteZeroes(512, 1024, unmap)]);
    }
}

#[test]
fn ranges_that_make_no_sense_are_refused_before_any_is_acted_upon() {
    let mut guest = Guest::plain();
    let good = segment(0, 8, 0);
    let wrong = [
        (DISCARD, Vec::new(), IOERR),
        (DISCARD, good[..15].to_vec(), IOERR),
        (DISCARD, [&good[..], &[0]].concat(), IOERR),
        (DISCARD, good.repeat(17), IOERR),
        (DISCARD, [good.clone(), segment(SECTORS, 1, 0)].concat(), IOERR),
        (DISCARD, [good.clone(), segment(u64::MAX, 8, 0)].concat(), IOERR),
        (DISCARD, segment(0, u32::MAX, 0), IOERR),
        (DISCARD, [good.clone(), segment(0, 8, 1)].concat(), UNSUPP),
        (WRITE_ZEROES, good.repeat(2), IOERR),
        (WRITE_ZEROES, segment(SECTORS - 1, 2, 0), IOERR),
        (WRITE_ZEROES, segment(0, (1 << 16) + 1, 0), IOERR),
        (WRITE_ZEROES, segment(0, 8, 2), UNSUPP),
    ];
    for (kind, ranges, expected) in wrong {
        let status = guest.status(&[header(kind, 0), ranges.clone()]);
        assert_eq!(status, expected, "type {kind}, {ranges:x?}");
    }
    assert_eq!(guest.probe.calls(), []);
    assert_eq!(guest.status(&[header(DISCARD, 0), good.repeat(16)]), OK);
}

#[test]
fn what_was_not_agreed_on_is_unsupported() {
    let mut guest = Guest::new(Probe::new(), Cache::default(), 1 << 13 | 1 << 14);
    assert_eq!(guest.status(&[header(DISCARD, 0), segment(0, 8, 0)]), UNSUPP);
    assert_eq!(guest.status(&[header(WRITE_ZEROES, 0), segment(0, 8, 0)]), UNSUPP);
    assert_eq!(guest.probe.calls(), []);
}

#[test]
fn a_failing_host_is_an_error_to_the_guest_and_the_disk_goes_on() {
    let mut guest = Guest::plain();
    let probe = guest.probe.clone();
    probe.fail(0, ErrorKind::StorageFull);
    assert_eq!(guest.status(&[header(OUT, 0), pattern(512)]), IOERR);
    assert_eq!(guest.status(&[header(FLUSH, 0)]), IOERR);
    assert_eq!(guest.status(&[header(DISCARD, 0), segment(0, 8, 0)]), IOERR);
    assert_eq!(guest.status(&[header(WRITE_ZEROES, 0), segment(0, 8, 0)]), IOERR);
    assert_eq!(guest.ask(&header(IN, 0), 512), (IOERR, 0, vec![0x77; 512]));
    assert_eq!(guest.handle.with(|blk| blk.failures()), 5);

    // The second piece of a read fails: what came before it counts, and the status comes after.
    probe.calls();
    probe.fail(1, ErrorKind::UnexpectedEof);
    let (status, len, room) = guest.ask(&header(IN, 0), 128 << 10);
    assert_eq!((status, len), (IOERR, 64 << 10));
    assert_eq!((room[(64 << 10) - 1], room[64 << 10]), (0, 0x77));

    *probe.fault.lock().unwrap() = None;
    assert_eq!(guest.ask(&header(IN, 0), 512).0, OK);
    assert_ne!(OK, UNTOUCHED);
}
