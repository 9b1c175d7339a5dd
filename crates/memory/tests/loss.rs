//! Files that are cut short under memory. In a process of their own: what one file loses here must not
//! disturb tests that look at how memory is mapped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs::File, os::unix::process::ExitStatusExt, process::Command, sync::Barrier, thread};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::memfd::{MFdFlags, memfd_create},
};
use purlin_memory::{
    Backing, Bytes, GuestAddress, MemoryRegionAddress, Ram,
    loss::{Watch, count, mend, mend_all},
};

const START: GuestAddress = GuestAddress(0x10_0000);
const LEN: usize = 0x10_0000;

fn at(offset: u64) -> GuestAddress {
    GuestAddress(START.0 + offset)
}

/// Memory that is all sevens, and its file.
fn over_file(private: bool) -> (Ram, File) {
    let file = File::from(memfd_create(c"test", MFdFlags::empty()).unwrap());
    file.set_len(LEN as u64).unwrap();
    let twin = file.try_clone().unwrap();
    let shared = Ram::new(&[(START, LEN)], Backing::Shared(twin)).unwrap();
    shared.memory().write_slice(&[7; LEN], START).unwrap();
    let twin = file.try_clone().unwrap();
    let backing = if private { Backing::CopyOnWrite(twin) } else { Backing::Shared(twin) };
    (Ram::new(&[(START, LEN)], backing).unwrap(), file)
}

#[test]
fn what_a_file_loses_reads_as_zero_and_can_be_written() {
    for private in [false, true] {
        let (ram, file) = over_file(private);
        let watch = Watch::new(&ram, START).unwrap();
        let before = count();
        file.set_len(0x3001).unwrap();
        let memory = ram.memory();
        assert_eq!(memory.read_obj::<u8>(at(0x8000)).unwrap(), 0);
        memory.write_obj(9_u8, at(0x9000)).unwrap();
        assert_eq!(memory.read_obj::<u8>(at(0x9000)).unwrap(), 9);
        assert_eq!(memory.read_obj::<u8>(at(0x3000)).unwrap(), 7, "the page is still there");
        assert_eq!(watch.lost(), LEN as u64 - 0x4000);
        assert!(count() > before);
    }
}

#[test]
fn what_is_lost_stays_lost_and_more_can_be() {
    let (ram, file) = over_file(false);
    let watch = Watch::new(&ram, START).unwrap();
    let read = |offset| ram.memory().read_obj::<u8>(at(offset)).unwrap();
    for len in [0x8000, 0x2000] {
        file.set_len(len).unwrap();
        assert_eq!((read(len), watch.lost()), (0, LEN as u64 - len));
        file.set_len(LEN as u64).unwrap();
        ram.memory().write_obj(5_u8, at(LEN as u64 - 1)).unwrap();
        assert_eq!(watch.lost(), LEN as u64 - len);
    }
    assert_eq!((read(0x1000), read(LEN as u64 - 1)), (7, 5));
}

#[test]
fn what_a_vcpu_could_not_use_is_mended_as_well() {
    let (ram, file) = over_file(false);
    let watch = Watch::new(&ram, START).unwrap();
    file.set_len(0x8000).unwrap();
    assert!(mend(watch.region(), MemoryRegionAddress(0x9000)));
    assert_eq!(watch.lost(), LEN as u64 - 0x8000);
    file.set_len(0x7000).unwrap();
    assert!(mend_all());
    assert_eq!(watch.lost(), LEN as u64 - 0x7000);
    let other = Ram::new(&[(START, LEN)], Backing::Anonymous).unwrap();
    let region = other.regions().next().unwrap();
    assert!(!mend(&region, MemoryRegionAddress(0)), "nobody watches it");
}

#[test]
fn who_cuts_a_file_is_noticed_before_anybody_touches_the_memory() {
    let (ram, file) = over_file(false);
    let watch = Watch::new(&ram, START).unwrap();
    let told = |timeout: u16| {
        let mut source = [PollFd::new(watch.source().unwrap(), PollFlags::POLLIN)];
        poll(&mut source, timeout).unwrap() == 1
    };
    ram.memory().write_obj(8_u8, at(0x1000)).unwrap();
    assert!(!told(0), "memory is no news");
    file.set_len(0x8000).unwrap();
    assert!(told(60_000));
    assert!(watch.check() && !watch.check() && !told(0));
    assert_eq!(watch.lost(), LEN as u64 - 0x8000);
}

#[test]
fn watching_again_begins_anew() {
    for _ in 0..20 {
        let (ram, file) = over_file(false);
        let watch = Watch::new(&ram, START).unwrap();
        assert_eq!(watch.lost(), 0);
        file.set_len(0x8000).unwrap();
        assert_eq!(ram.memory().read_obj::<u8>(at(0x8000)).unwrap(), 0);
        assert_eq!(watch.lost(), LEN as u64 - 0x8000);
    }
}

#[test]
fn many_threads_that_meet_the_loss_at_once_lose_nothing_that_they_write() {
    const THREADS: u8 = 4;
    for _ in 0..60 {
        let (ram, file) = over_file(false);
        let _watch = Watch::new(&ram, START).unwrap();
        file.set_len(0).unwrap();
        let (memory, start) = (ram.memory(), Barrier::new(THREADS.into()));
        let write = |thread: u8| {
            start.wait();
            memory.write_obj(thread + 1, at(thread.into())).unwrap();
        };
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let write = &write;
                scope.spawn(move || write(thread));
            }
        });
        let written = (0..THREADS).map(|thread| memory.read_obj::<u8>(at(thread.into())).unwrap());
        assert_eq!(written.collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}

#[test]
fn only_memory_over_a_file_is_watched() {
    let ram = Ram::new(&[(START, LEN)], Backing::Anonymous).unwrap();
    let error = Watch::new(&ram, START).unwrap_err();
    assert_eq!(error.to_string(), "no memory over a file starts at 0x100000");
    assert!(Watch::new(&over_file(false).0, GuestAddress(0)).is_err());
}

#[test]
#[ignore = "ends the process: run by the test below"]
fn the_end_of_a_process() {
    let (ram, file) = over_file(false);
    let _other = Watch::new(&over_file(false).0, START).unwrap();
    let watch = Watch::new(&ram, START).unwrap();
    file.set_len(0).unwrap();
    assert_eq!(ram.memory().read_obj::<u8>(START).unwrap(), 0);
    let (ram, file) = over_file(false);
    drop(watch);
    file.set_len(0).unwrap();
    let _ = ram.memory().read_obj::<u8>(START);
}

#[test]
fn a_loss_that_nobody_watches_ends_the_process_as_it_would_anyway() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_end_of_a_process", "--ignored"])
        .output()
        .unwrap();
    assert_eq!(child.status.signal(), Some(libc::SIGBUS), "{child:?}");
}
