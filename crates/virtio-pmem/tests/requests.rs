//! What every virtio device must do, and every request, as a driver makes it and as none should.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod scratch;

use std::{cell::RefCell, fs};

use device::Persist;
use disk::Access;
use memory::{Backing, Bytes, GuestAddress, Ram};
use purlin_virtio_pmem::{Image, Pmem, PmemState};
use scratch::{LEN, Scratch};
use virtio::{
    Handle,
    conformance::{self, BUFFERS, Driver, Request},
};

const START: GuestAddress = GuestAddress(4 << 30);
const FAILED: [u8; 4] = [0xff; 4];

fn pmem(scratch: &Scratch, access: Access) -> Pmem {
    with_memory(scratch, access).0
}

fn with_memory(scratch: &Scratch, access: Access) -> (Pmem, Ram) {
    let image = Image::open(&scratch.0, access).unwrap();
    let len = usize::try_from(image.len()).unwrap();
    let ram = Ram::new(&[(START, len)], image.backing().unwrap()).unwrap();
    (Pmem::new(image, &ram, START).unwrap(), ram)
}

/// Makes devices with an image each: several at a time would not share one for writing.
fn fresh(access: Access) -> impl Fn() -> Pmem {
    let made = RefCell::new(Vec::new());
    move || {
        let scratch = Scratch::new(LEN);
        let pmem = pmem(&scratch, access);
        made.borrow_mut().push(scratch);
        pmem
    }
}

/// A driver, and its handle on the device.
fn started(scratch: &Scratch, access: Access) -> (Driver, Handle<Pmem>) {
    let (mut driver, handle) = Driver::with_handle(virtio::mmio(pmem(scratch, access)));
    driver.start(driver.offered());
    (driver, handle)
}

/// Makes a request with room for `room` bytes: the length that comes back, and what is there.
fn ask(driver: &mut Driver, request: &[u8], room: u32) -> (u32, [u8; 4]) {
    let (out, back) = (BUFFERS, BUFFERS + 0x1000);
    let memory = driver.memory().clone();
    memory.write_slice(request, GuestAddress(out)).unwrap();
    memory.write_slice(&[0x77; 4], GuestAddress(back)).unwrap();
    let len = u32::try_from(request.len()).unwrap();
    let chain = [(out, len, false), (back, room, true)];
    let chain: Vec<_> = chain.into_iter().filter(|buffer| buffer.1 > 0).collect();
    let head = driver.queues[0].offer(&chain);
    driver.kick_and_run(0);
    let used = driver.queues[0].used();
    assert_eq!((used.len(), used[0].0), (1, u32::from(head)));
    (used[0].1, memory.read_obj(GuestAddress(back)).unwrap())
}

#[test]
fn it_conforms() {
    for access in [Access::ReadOnly, Access::ReadWrite] {
        conformance::device(fresh(access));
    }
}

#[test]
fn a_flush_is_served_however_it_is_cut() {
    for (readable, answer) in [([0; 4], [0; 4]), ([1, 0, 0, 0], FAILED), ([0, 0, 0, 1], FAILED)] {
        let answer = Some(answer.to_vec());
        let request = Request { queue: 0, readable: readable.to_vec(), room: 4, answer, len: 4 };
        conformance::serves(fresh(Access::ReadWrite), &request);
    }
}

#[test]
fn the_guest_is_told_where_its_memory_is() {
    let scratch = Scratch::new(LEN);
    let (driver, _) = started(&scratch, Access::ReadWrite);
    let mut space = [0; 16];
    driver.read_config(0, &mut space);
    assert_eq!(space[..8], START.0.to_le_bytes());
    assert_eq!(space[8..], LEN.to_le_bytes());
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let scratch = Scratch::new(LEN);
    let (mut driver, _) = started(&scratch, Access::ReadWrite);
    for request in [&[][..], &[0], &[0, 0, 0], &[2, 0, 0, 0], &[0xff; 4], &[1; 64]] {
        assert_eq!(ask(&mut driver, request, 4), (4, FAILED), "{request:x?}");
    }
    // More than a request in front, more room behind.
    assert_eq!(ask(&mut driver, &[0; 64], 600), (4, [0; 4]));
}

#[test]
fn a_flush_without_room_for_an_answer_is_not_done() {
    let scratch = Scratch::new(LEN);
    let (mut driver, handle) = started(&scratch, Access::ReadWrite);
    scratch.cut(0);
    for room in 0..4 {
        assert_eq!(ask(&mut driver, &[0; 4], room), (0, [0x77; 4]));
    }
    assert_eq!(handle.with(|pmem| pmem.failures()), 0);
}

#[test]
fn a_file_that_was_cut_is_told_at_each_flush_from_then_on_and_the_device_goes_on() {
    let scratch = Scratch::new(LEN);
    let (mut driver, handle) = started(&scratch, Access::ReadWrite);
    assert_eq!(ask(&mut driver, &[0; 4], 4), (4, [0; 4]));
    scratch.cut(LEN - 1);
    assert_eq!(ask(&mut driver, &[0; 4], 4), (4, FAILED));
    // What was there is lost all the same.
    scratch.cut(LEN);
    assert_eq!(ask(&mut driver, &[0; 4], 4), (4, FAILED));
    assert_eq!(handle.with(|pmem| (pmem.failures(), pmem.lost())), (2, 0));
}

#[test]
fn what_a_file_has_lost_reads_as_zero_and_is_never_flushed_again() {
    let scratch = Scratch::new(LEN);
    let (pmem, ram) = with_memory(&scratch, Access::ReadWrite);
    let last = GuestAddress(START.0 + LEN - 1);
    let memory = ram.memory();
    memory.write_obj(7_u8, last).unwrap();
    let (mut driver, handle) = Driver::with_handle(virtio::mmio(pmem));
    driver.start(driver.offered());
    scratch.cut(LEN / 2);
    assert_eq!(memory.read_obj::<u8>(last).unwrap(), 0);
    // Longer again, but not what the guest has.
    scratch.cut(LEN);
    memory.write_obj(8_u8, last).unwrap();
    assert_eq!(ask(&mut driver, &[0; 4], 4), (4, FAILED));
    assert_eq!(handle.with(|pmem| (pmem.failures(), pmem.lost())), (1, LEN / 2));
    assert_eq!(fs::read(&scratch.0).unwrap().last(), Some(&0));
}

#[test]
fn a_cut_is_noticed_by_the_device_without_a_request() {
    let scratch = Scratch::new(LEN);
    let (mut driver, handle) = started(&scratch, Access::ReadWrite);
    driver.run();
    scratch.cut(LEN / 2);
    driver.run();
    assert_eq!(handle.with(|pmem| pmem.lost()), LEN / 2);
}

#[test]
fn what_a_guest_did_not_write_to_a_file_that_is_only_read_is_not_told_to_be_durable() {
    let scratch = Scratch::new(LEN);
    let (mut driver, handle) = started(&scratch, Access::ReadOnly);
    assert_eq!(ask(&mut driver, &[0; 4], 4), (4, FAILED));
    assert_eq!(handle.with(|pmem| pmem.failures()), 0, "the host did nothing wrong");
}

#[test]
fn memory_that_is_not_there_is_refused() {
    let scratch = Scratch::new(LEN);
    let (_, ram) = with_memory(&scratch, Access::ReadWrite);
    drop(ram);
    let image = Image::open(&scratch.0, Access::ReadWrite).unwrap();
    let ram = Ram::new(&[(GuestAddress(0), 0x1000)], Backing::Anonymous).unwrap();
    let error = Pmem::new(image, &ram, START).unwrap_err();
    assert_eq!(error.to_string(), "no memory over a file starts at 0x100000000");
}

#[test]
fn a_snapshot_of_other_memory_is_refused_with_both() {
    let scratch = Scratch::new(LEN);
    let mut pmem = pmem(&scratch, Access::ReadWrite);
    let state = pmem.save().unwrap();
    assert_eq!(state, PmemState { start: START.0, size: LEN, read_only: false });
    pmem.restore(state).unwrap();
    for other in [
        PmemState { start: 0, ..state },
        PmemState { size: LEN / 2, ..state },
        PmemState { read_only: true, ..state },
    ] {
        let error = pmem.restore(other).unwrap_err().to_string();
        assert!(error.contains("and is 4194304 bytes at 0x100000000, writable"), "{error}");
    }
}
