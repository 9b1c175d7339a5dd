//! A kernel that takes no requests by io_uring any more, as when a filter is put around a thread that
//! has a ring already.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    env,
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
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::pipe,
};
use purlin_disk::{Operation, Uring};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// How long something is watched that must not happen.
const WHILE: Duration = Duration::from_millis(50);

/// From now on, `io_uring_enter` fails with `errno` in this thread.
fn refuse(errno: Errno) {
    refuse_all(&[libc::SYS_io_uring_enter], errno);
}

/// From now on, `calls` fail with `errno` in this thread.
fn refuse_all(calls: &[i64], errno: Errno) {
    let action = SeccompAction::Errno(u32::try_from(errno as i32).unwrap());
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// Runs `test` in a thread that ends with it, and its filter too.
fn apart(test: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(test).join().unwrap());
}

fn ram() -> GuestMemory {
    Ram::new(&[(GuestAddress(0), 1 << 20)], Backing::Anonymous).unwrap().memory()
}

fn at(addr: u64, len: usize) -> impl FnOnce(&mut Scatter) -> io::Result<()> {
    move |places| places.push(GuestAddress(addr), len).map_err(io::Error::other)
}

type Done = (u64, usize, Option<ErrorKind>);

/// What one turn ends.
fn turn(uring: &mut Uring) -> Vec<Done> {
    let mut list = Vec::new();
    uring.run(|tag, done, result| list.push((tag, done, result.err().map(|error| error.kind()))));
    list
}

fn is_readable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).unwrap() == 1
}

#[test]
fn what_the_kernel_does_not_take_is_done_at_once_one_by_one() {
    apart(|| {
        let file = File::from(memfd_create(c"disk", MFdFlags::empty()).unwrap());
        file.write_all_at(b"from the file", 0).unwrap();
        let (mut uring, ram) = (Uring::new(file.as_fd(), 4).unwrap(), ram());
        ram.write_slice(b"abcd", GuestAddress(0x100)).unwrap();
        refuse(Errno::EPERM);
        let requests = [
            (Operation::Write(4096), at(0x100, 4)),
            (Operation::WriteThrough(4100), at(0x100, 4)),
            (Operation::Read(5), at(0x200, 8)),
            (Operation::Read(4096), at(0x300, 9)),
        ];
        for (tag, (operation, places)) in (0..).zip(requests) {
            uring.start(&ram, (operation, tag), places).unwrap();
        }
        let end = Some(ErrorKind::UnexpectedEof);
        assert_eq!(turn(&mut uring), [(0, 4, None), (1, 4, None), (2, 8, None), (3, 8, end)]);
        assert_eq!((uring.is_refused(), uring.in_flight()), (true, 0));
        assert_eq!(&ram.read_obj::<[u8; 8]>(GuestAddress(0x200)).unwrap(), b"the file");
        assert_eq!(&ram.read_obj::<[u8; 9]>(GuestAddress(0x300)).unwrap(), b"abcdabcd\0");

        // So it goes on, and nobody is woken up for nothing.
        uring.start(&ram, (Operation::Read(0), 7), at(0x400, 4)).unwrap();
        uring.start(&ram, (Operation::Flush, 8), |_| Ok(())).unwrap();
        assert_eq!(turn(&mut uring), [(7, 4, None), (8, 0, None)]);
        assert!(!is_readable(uring.as_fd(), PollTimeout::ZERO));
    });
}

#[test]
fn what_is_done_one_by_one_lasts_as_it_would_have() {
    apart(|| {
        let file = File::from(memfd_create(c"disk", MFdFlags::empty()).unwrap());
        let (mut uring, ram) = (Uring::new(file.as_fd(), 4).unwrap(), ram());
        // Who asks for that much is told.
        refuse_all(&[libc::SYS_io_uring_enter, libc::SYS_fdatasync], Errno::EPERM);
        uring.start(&ram, (Operation::Write(0), 0), at(0x100, 4)).unwrap();
        uring.start(&ram, (Operation::WriteThrough(4), 1), at(0x100, 4)).unwrap();
        uring.start(&ram, (Operation::Flush, 2), |_| Ok(())).unwrap();
        let denied = Some(ErrorKind::PermissionDenied);
        assert_eq!(turn(&mut uring), [(0, 4, None), (1, 4, denied), (2, 0, denied)]);
    });
}

#[test]
fn what_the_kernel_took_before_stays_its_own_until_it_answers() {
    apart(|| {
        let (reader, writer) = pipe().unwrap();
        let (mut uring, ram) = (Uring::new(reader.as_fd(), 2).unwrap(), ram());
        uring.start(&ram, (Operation::Read(0), 1), at(0x100, 8)).unwrap();
        assert_eq!(turn(&mut uring), []);
        refuse(Errno::EBADF);
        uring.start(&ram, (Operation::Read(0), 2), at(0x200, 8)).unwrap();
        // There is no place 0 in a pipe, which only io_uring overlooks.
        assert_eq!(turn(&mut uring), [(2, 0, Some(ErrorKind::NotSeekable))]);
        assert_eq!((uring.is_refused(), uring.in_flight()), (true, 1));
        assert_eq!(turn(&mut uring), []);

        let mut writer = File::from(writer);
        writer.write_all(b"in time!").unwrap();
        assert!(is_readable(uring.as_fd(), PollTimeout::NONE));
        assert_eq!(turn(&mut uring), [(1, 8, None)]);
        assert_eq!(uring.in_flight(), 0);
        assert_eq!(&ram.read_obj::<[u8; 8]>(GuestAddress(0x100)).unwrap(), b"in time!");
    });
}

#[test]
fn a_ring_without_a_kernel_that_goes_away_waits_for_it_all_the_same() {
    apart(|| {
        let (reader, writer) = pipe().unwrap();
        let (mut uring, ram) = (Uring::new(reader.as_fd(), 2).unwrap(), ram());
        uring.start(&ram, (Operation::Read(0), 1), at(0x100, 4)).unwrap();
        turn(&mut uring);
        refuse(Errno::EBADF);
        uring.start(&ram, (Operation::Flush, 2), |_| Ok(())).unwrap();
        turn(&mut uring);
        let mut writer = File::from(writer);
        let (sender, dropped) = mpsc::channel();
        thread::spawn(move || {
            drop(uring);
            sender.send(()).unwrap();
        });
        assert!(dropped.recv_timeout(WHILE).is_err(), "the kernel is not done");
        writer.write_all(b"done").unwrap();
        dropped.recv().unwrap();
        assert_eq!(&ram.read_obj::<[u8; 4]>(GuestAddress(0x100)).unwrap(), b"done");
    });
}

#[test]
fn a_kernel_that_says_not_now_is_asked_again_and_not_for_ever() {
    let file = File::from(memfd_create(c"disk", MFdFlags::empty()).unwrap());
    file.set_len(4096).unwrap();
    let ram = ram();
    for errno in [Errno::EAGAIN, Errno::EBUSY, Errno::EINTR] {
        let mut uring = Uring::new(file.as_fd(), 2).unwrap();
        uring.start(&ram, (Operation::Read(0), 1), at(0x100, 8)).unwrap();
        apart(|| {
            refuse(errno);
            let mut turns = 0;
            loop {
                let done = turn(&mut uring);
                turns += 1;
                if !done.is_empty() {
                    assert_eq!(done, [(1, 8, None)]);
                    break;
                }
                assert!(turns < 1000, "{errno}");
                assert!(is_readable(uring.as_fd(), PollTimeout::ZERO), "somebody tries again");
            }
            assert!(uring.is_refused());
        });
        // What it was offered then must not be taken by the next who asks: its places are others' now.
        uring.start(&ram, (Operation::Read(0), 2), at(0x200, 8)).unwrap();
        assert_eq!(turn(&mut uring), [(2, 8, None)]);
        ram.write_slice(b"not his!", GuestAddress(0x100)).unwrap();
        drop(uring);
        assert_eq!(&ram.read_obj::<[u8; 8]>(GuestAddress(0x100)).unwrap(), b"not his!");
    }
}

#[test]
fn a_kernel_that_says_not_now_may_take_it_later() {
    let file = File::from(memfd_create(c"disk", MFdFlags::empty()).unwrap());
    file.set_len(4096).unwrap();
    let (mut uring, ram) = (Uring::new(file.as_fd(), 2).unwrap(), ram());
    apart(|| {
        refuse(Errno::EAGAIN);
        uring.start(&ram, (Operation::Read(0), 1), at(0x100, 8)).unwrap();
        assert_eq!(turn(&mut uring), []);
    });
    let mut done = turn(&mut uring);
    while done.is_empty() {
        assert!(is_readable(uring.as_fd(), PollTimeout::NONE));
        done = turn(&mut uring);
    }
    assert_eq!((done, uring.is_refused()), (vec![(1, 8, None)], false));
}
