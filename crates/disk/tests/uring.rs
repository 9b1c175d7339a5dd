//! Requests by io_uring, to real files and to one that makes them wait.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    sync::mpsc,
    thread,
    time::Duration,
};

use memory::{Backing, Bytes, GuestAddress, GuestMemory, Ram, Scatter};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::pipe,
};
use purlin_disk::{Operation, Uring};

const LEN: u64 = 1 << 20;

fn ram() -> GuestMemory {
    Ram::new(&[(GuestAddress(0), 1 << 20)], Backing::Anonymous).unwrap().memory()
}

/// A file in memory whose byte at an offset says where it is.
fn file() -> File {
    let file = File::from(memfd_create(c"disk", MFdFlags::empty()).unwrap());
    let bytes: Vec<u8> = (0..LEN).map(|at| u8::try_from(at / 512 % 251).unwrap()).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

fn at(addr: u64, len: usize) -> impl FnOnce(&mut Scatter) -> io::Result<()> {
    move |places| places.push(GuestAddress(addr), len).map_err(io::Error::other)
}

/// What is done, when as much as `count` requests are.
fn wait(uring: &mut Uring, count: usize) -> Vec<(u64, usize, Option<ErrorKind>)> {
    let mut list = Vec::new();
    loop {
        uring.run(|tag, done, result| {
            list.push((tag, done, result.err().map(|error| error.kind())));
        });
        if list.len() >= count {
            return list;
        }
        readable(uring.as_fd());
    }
}

#[test]
fn requests_at_the_same_time_each_get_their_own_bytes() {
    let (file, ram) = (file(), ram());
    let mut uring = Uring::new(file.as_fd(), 64).unwrap();
    for tag in 0..64 {
        let what = (Operation::Read((63 - tag) * 4096), tag);
        uring.start(&ram, what, at(tag * 4096, 4096)).unwrap();
    }
    assert_eq!((uring.in_flight(), uring.has_room()), (64, false));
    let full = uring.start(&ram, (Operation::Flush, 99), |_| Ok(())).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let mut list = wait(&mut uring, 64);
    list.sort_unstable_by_key(|(tag, ..)| *tag);
    assert_eq!(list, (0..64).map(|tag| (tag, 4096, None)).collect::<Vec<_>>());
    for tag in 0..64 {
        let byte: u8 = ram.read_obj(GuestAddress(tag * 4096 + 600)).unwrap();
        assert_eq!(u64::from(byte), ((63 - tag) * 8 + 1) % 251);
    }
    assert_eq!(uring.in_flight(), 0);
}

#[test]
fn writes_in_pieces_arrive_and_can_be_flushed() {
    let (file, ram) = (file(), ram());
    let mut uring = Uring::new(file.as_fd(), 4).unwrap();
    ram.write_slice(b"abcdefgh", GuestAddress(0x100)).unwrap();
    for (tag, write) in
        [Operation::Write(4096), Operation::WriteThrough(8192)].into_iter().enumerate()
    {
        let fill = |places: &mut Scatter| {
            places.push(GuestAddress(0x104), 4).map_err(io::Error::other)?;
            places.push(GuestAddress(0x100), 4).map_err(io::Error::other)
        };
        uring.start(&ram, (write, u64::try_from(tag).unwrap()), fill).unwrap();
    }
    assert_eq!(wait(&mut uring, 2).len(), 2);
    uring.start(&ram, (Operation::Flush, 7), |_| Ok(())).unwrap();
    assert_eq!(wait(&mut uring, 1), [(7, 0, None)]);
    for offset in [4096, 8192] {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert_eq!(&bytes, b"efghabcd");
    }
}

#[test]
fn what_is_not_in_the_file_any_more_is_an_error_with_what_was() {
    let (file, ram) = (file(), ram());
    let mut uring = Uring::new(file.as_fd(), 4).unwrap();
    file.set_len(4096 + 100).unwrap();
    uring.start(&ram, (Operation::Read(4096), 1), at(0, 4096)).unwrap();
    assert_eq!(wait(&mut uring, 1), [(1, 100, Some(ErrorKind::UnexpectedEof))]);
    uring.start(&ram, (Operation::Read(1 << 30), 2), at(0, 4096)).unwrap();
    assert_eq!(wait(&mut uring, 1), [(2, 0, Some(ErrorKind::UnexpectedEof))]);
}

#[test]
fn a_full_host_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut uring = Uring::new(full.as_fd(), 4).unwrap();
    uring.start(&ram(), (Operation::Write(0), 1), at(0, 4096)).unwrap();
    assert_eq!(wait(&mut uring, 1), [(1, 0, Some(ErrorKind::StorageFull))]);
}

#[test]
fn a_request_that_does_not_start_leaves_its_place_free() {
    let (file, ram) = (file(), ram());
    let mut uring = Uring::new(file.as_fd(), 1).unwrap();
    uring.start(&ram, (Operation::Read(0), 1), at(1 << 20, 512)).unwrap_err();
    assert!(uring.has_room());
    uring.start(&ram, (Operation::Read(0), 2), at(0, 512)).unwrap();
    assert_eq!(wait(&mut uring, 1), [(2, 512, None)]);
}

#[test]
fn short_answers_are_followed_up_and_the_source_tells_of_the_end() {
    let (reader, writer) = pipe().unwrap();
    let (ram, mut writer) = (ram(), File::from(writer));
    let mut uring = Uring::new(reader.as_fd(), 2).unwrap();
    uring.start(&ram, (Operation::Read(0), 5), at(0x100, 8)).unwrap();
    uring.run(|_, _, _| ());
    assert_eq!(uring.in_flight(), 1);
    writer.write_all(b"abc").unwrap();
    readable(uring.as_fd());
    uring.run(|_, _, _| ());
    assert_eq!(uring.in_flight(), 1, "three of eight bytes");
    writer.write_all(b"defgh").unwrap();
    assert_eq!(wait(&mut uring, 1), [(5, 8, None)]);
    assert_eq!(&ram.read_obj::<[u8; 8]>(GuestAddress(0x100)).unwrap(), b"abcdefgh");
}

fn readable(fd: BorrowedFd<'_>) {
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
}

#[test]
fn a_flush_asks_the_file() {
    // A pipe cannot be flushed, and says so.
    let (reader, _writer) = pipe().unwrap();
    let mut uring = Uring::new(reader.as_fd(), 1).unwrap();
    uring.start(&ram(), (Operation::Flush, 1), |_| Ok(())).unwrap();
    assert_eq!(wait(&mut uring, 1), [(1, 0, Some(ErrorKind::InvalidInput))]);
}

#[test]
fn what_the_thread_that_asked_leaves_behind_is_asked_for_again() {
    let (reader, writer) = pipe().unwrap();
    let (ram, mut writer) = (ram(), File::from(writer));
    let mut uring = Uring::new(reader.as_fd(), 4).unwrap();
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            for tag in 0..4 {
                uring.start(&ram, (Operation::Read(0), tag), at(0x100 * tag, 8)).unwrap();
            }
            uring.run(|_, _, _| ());
        });
        asked.join().unwrap();
    });
    // The kernel answers for a thread that is gone, and not with what was asked for.
    writer.write_all(b"one more").unwrap();
    let mut list = wait(&mut uring, 1);
    while list.len() < 4 {
        writer.write_all(b"one more").unwrap();
        list.extend(wait(&mut uring, 1));
    }
    list.sort_unstable_by_key(|(tag, ..)| *tag);
    assert_eq!(list, (0..4).map(|tag| (tag, 8, None)).collect::<Vec<_>>());
    for tag in 0..4 {
        assert_eq!(&ram.read_obj::<[u8; 8]>(GuestAddress(0x100 * tag)).unwrap(), b"one more");
    }
}

#[test]
fn a_ring_that_goes_away_waits_for_the_kernel() {
    let (reader, writer) = pipe().unwrap();
    let (ram, mut writer) = (ram(), File::from(writer));
    let mut uring = Uring::new(reader.as_fd(), 2).unwrap();
    uring.start(&ram, (Operation::Read(0), 5), at(0x100, 4)).unwrap();
    uring.run(|_, _, _| ());
    let (sender, dropped) = mpsc::channel();
    thread::spawn(move || {
        drop(uring);
        sender.send(()).unwrap();
    });
    assert!(dropped.recv_timeout(Duration::from_millis(50)).is_err(), "the kernel is not done");
    writer.write_all(b"done").unwrap();
    dropped.recv().unwrap();
    assert_eq!(&ram.read_obj::<[u8; 4]>(GuestAddress(0x100)).unwrap(), b"done");
}
