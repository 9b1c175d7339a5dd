//! What every virtio device must do, and every request, as a driver makes it and as none should.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use device::Persist;
use memory::{Backing, Bytes, GuestAddress, GuestMemory, Ram};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use purlin_virtio_mem::{Mem, MemConfig, MemError, MemState};
use virtio::{
    Handle,
    conformance::{self, BUFFERS, Driver, Request},
};

const START: u64 = 4 << 30;
const BLOCK: u64 = 64 << 10;
/// More than one word of the bitmap, and not a whole number of them.
const BLOCKS: u64 = 150;
const LEN: u64 = BLOCKS * BLOCK;

const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;

const ACK: u16 = 0;
const NACK: u16 = 1;
const BUSY: u16 = 2;
const ERROR: u16 = 3;

const PLUGGED: u16 = 0;
const UNPLUGGED: u16 = 1;
const MIXED: u16 = 2;

fn memory() -> GuestMemory {
    let len = usize::try_from(LEN).unwrap();
    Ram::new(&[(GuestAddress(START), len)], Backing::Anonymous).unwrap().memory()
}

fn config() -> MemConfig {
    MemConfig { block: BLOCK, ..MemConfig::new(GuestAddress(START), LEN) }
}

/// A device of which `blocks` blocks are requested.
fn mem(memory: GuestMemory, blocks: u64) -> Mem {
    let mut mem = Mem::new(memory, config()).unwrap();
    mem.set_requested(blocks * BLOCK).unwrap();
    mem
}

fn bytes_of(kind: u16, addr: u64, count: u16) -> Vec<u8> {
    // The padding may hold anything.
    let parts =
        [&kind.to_le_bytes()[..], &[9; 6], &addr.to_le_bytes(), &count.to_le_bytes(), &[9; 6]];
    parts.concat()
}

/// A driver, its device and the memory that this manages.
struct Guest {
    driver: Driver,
    handle: Handle<Mem>,
    memory: GuestMemory,
}

impl Guest {
    fn new(requested: u64) -> Self {
        Self::with(memory(), requested)
    }

    fn with(memory: GuestMemory, requested: u64) -> Self {
        let (mut driver, handle) =
            Driver::with_handle(virtio::mmio(mem(memory.clone(), requested)));
        driver.start(driver.offered());
        Self { driver, handle, memory }
    }

    /// Makes a request with room for `room` bytes: the length that comes back, and what is there.
    fn send(&mut self, request: &[u8], room: u32) -> (u32, [u8; 10]) {
        let (out, back) = (BUFFERS, BUFFERS + 0x1000);
        let memory = self.driver.memory().clone();
        memory.write_slice(request, GuestAddress(out)).unwrap();
        memory.write_slice(&[0x77; 10], GuestAddress(back)).unwrap();
        let len = u32::try_from(request.len()).unwrap();
        let chain = [(out, len, false), (back, room, true)];
        let chain: Vec<_> = chain.into_iter().filter(|buffer| buffer.1 > 0).collect();
        let head = self.driver.queues[0].offer(&chain);
        self.driver.kick_and_run(0);
        let used = self.driver.queues[0].used();
        assert_eq!((used.len(), used[0].0), (1, u32::from(head)));
        (used[0].1, memory.read_obj(GuestAddress(back)).unwrap())
    }

    /// Makes a request about `count` blocks from number `first` on: the type of its answer.
    fn ask(&mut self, kind: u16, first: u64, count: u16) -> u16 {
        self.ask_at(kind, START + first * BLOCK, count)
    }

    fn ask_at(&mut self, kind: u16, addr: u64, count: u16) -> u16 {
        let (len, answer) = self.send(&bytes_of(kind, addr, count), 10);
        assert_eq!((len, &answer[2..8]), (10, &[0; 6][..]));
        u16::from_le_bytes([answer[0], answer[1]])
    }

    fn state(&mut self, first: u64, count: u16) -> u16 {
        let (len, answer) = self.send(&bytes_of(STATE, START + first * BLOCK, count), 10);
        assert_eq!((len, answer[0]), (10, 0));
        u16::from_le_bytes([answer[8], answer[9]])
    }

    /// The field of the configuration space at `offset`.
    fn field(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.driver.read_config(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn plugged(&self) -> u64 {
        let told = self.field(40);
        assert_eq!(self.handle.with(|mem| mem.plugged()), told);
        told / BLOCK
    }
}

#[test]
fn it_conforms() {
    conformance::device(|| mem(memory(), 10));
}

#[test]
fn every_request_is_served_however_it_is_cut() {
    let answer = |kind: u8, state| vec![kind, 0, 0, 0, 0, 0, 0, 0, state, 0];
    // Requests that can be made again and again with the same answer.
    for (kind, addr, count, expected) in [
        (STATE, START, 3, answer(0, 1)),
        (UNPLUG_ALL, 0, 0, answer(0, 0)),
        (PLUG, START, 11, answer(1, 0)),
        (UNPLUG, START, 1, answer(3, 0)),
        (77, START, 1, answer(3, 0)),
    ] {
        let readable = bytes_of(kind, addr, count);
        let request = Request { queue: 0, readable, room: 10, answer: Some(expected), len: 10 };
        conformance::serves(|| mem(memory(), 10), &request);
    }
}

#[test]
fn the_guest_is_told_of_the_region_and_of_what_is_requested() {
    let guest = Guest::new(10);
    let fields = [0, 8, 16, 24, 32, 40, 48].map(|offset| guest.field(offset));
    assert_eq!(fields, [BLOCK, 0, START, LEN, LEN, 0, 10 * BLOCK]);
    assert_eq!(guest.driver.offered() & 0xff, 1 << 1);
}

#[test]
fn blocks_are_plugged_up_to_what_is_requested_and_unplugged_again() {
    let mut guest = Guest::new(10);
    assert_eq!(guest.ask(PLUG, 60, 8), ACK);
    assert_eq!(guest.ask(PLUG, 0, 3), NACK, "11 of 10");
    assert_eq!(guest.ask(PLUG, 0, 2), ACK);
    assert_eq!(guest.ask(PLUG, BLOCKS - 1, 1), NACK);
    assert_eq!(guest.plugged(), 10);
    assert_eq!(guest.ask(UNPLUG, 62, 2), ACK);
    assert_eq!(guest.plugged(), 8);
    assert_eq!(guest.ask(PLUG, BLOCKS - 2, 2), ACK);
    assert_eq!(guest.plugged(), 10);
}

#[test]
fn the_state_of_blocks_is_told() {
    let mut guest = Guest::new(10);
    assert_eq!(guest.ask(PLUG, 63, 2), ACK);
    assert_eq!(guest.state(63, 2), PLUGGED);
    assert_eq!(guest.state(64, 1), PLUGGED);
    assert_eq!(guest.state(62, 2), MIXED);
    assert_eq!(guest.state(64, 2), MIXED);
    assert_eq!(guest.state(0, 63), UNPLUGGED);
    assert_eq!(guest.state(0, 150), MIXED);
}

#[test]
fn what_is_unplugged_is_gone_and_the_rest_is_not() {
    let mut guest = Guest::new(10);
    assert_eq!(guest.ask(PLUG, 0, 3), ACK);
    let first_of = |block: u64| GuestAddress(START + block * BLOCK);
    assert_eq!(guest.ask(PLUG, 50, 1), ACK);
    for block in [0, 1, 2, 50] {
        guest.memory.write_obj(7_u8, first_of(block)).unwrap();
    }
    assert_eq!(guest.ask(UNPLUG, 1, 1), ACK);
    let now = |guest: &Guest| {
        [0, 1, 2, 50].map(|block| guest.memory.read_obj::<u8>(first_of(block)).unwrap())
    };
    assert_eq!(now(&guest), [7, 0, 7, 7]);
    assert_eq!(guest.ask_at(UNPLUG_ALL, u64::MAX, u16::MAX), ACK);
    assert_eq!((now(&guest), guest.plugged()), ([0; 4], 0));
    assert_eq!(guest.ask_at(UNPLUG_ALL, 0, 0), ACK, "with nothing plugged");
}

#[test]
fn what_the_host_does_not_take_back_stays_plugged() {
    let file = memfd_create(c"region", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let len = usize::try_from(LEN).unwrap();
    let backing = Backing::Shared(file.try_clone().unwrap().into());
    let ram = Ram::new(&[(GuestAddress(START), len)], backing).unwrap();
    let mut guest = Guest::with(ram.memory(), 10);
    assert_eq!(guest.ask(PLUG, 0, 3), ACK);
    assert_eq!(guest.ask(PLUG, 50, 3), ACK);
    assert_eq!(guest.ask(UNPLUG, 0, 1), ACK);
    // From now on there can be no holes in the file.
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE)).unwrap();
    assert_eq!(guest.ask(UNPLUG, 1, 1), BUSY);
    assert_eq!(guest.ask_at(UNPLUG_ALL, 0, 0), BUSY);
    assert_eq!((guest.plugged(), guest.handle.with(|mem| mem.failures())), (5, 2));
    assert_eq!(guest.ask(PLUG, 0, 1), ACK);
}

#[test]
fn requests_for_what_is_not_whole_blocks_of_the_region_are_errors() {
    let mut guest = Guest::new(BLOCKS);
    assert_eq!(guest.ask(PLUG, 0, 150), ACK);
    for kind in [PLUG, UNPLUG, STATE] {
        for (addr, count) in [
            (START, 0),
            (START + 1, 1),
            (START + BLOCK / 2, 1),
            (START - BLOCK, 2),
            (START, 151),
            (START, u16::MAX),
            (START + LEN, 1),
            (START + LEN - BLOCK, 2),
            (0, 1),
            (!(BLOCK - 1), 1),
            (!(BLOCK - 1), u16::MAX),
            (u64::MAX, u16::MAX),
        ] {
            assert_eq!(guest.ask_at(kind, addr, count), ERROR, "{kind}: {count} at {addr:#x}");
        }
    }
    assert_eq!(guest.plugged(), BLOCKS);
}

#[test]
fn requests_for_what_is_plugged_or_unplugged_already_are_errors_and_change_nothing() {
    let mut guest = Guest::new(10);
    assert_eq!(guest.ask(PLUG, 5, 2), ACK);
    for (kind, first, count) in
        [(PLUG, 5, 1), (PLUG, 4, 2), (PLUG, 6, 2), (PLUG, 4, 4), (UNPLUG, 4, 2), (UNPLUG, 6, 2)]
    {
        assert_eq!(guest.ask(kind, first, count), ERROR, "{kind}: {count} from {first}");
    }
    assert_eq!(guest.ask(UNPLUG, 0, 1), ERROR);
    assert_eq!((guest.plugged(), guest.state(5, 2)), (2, PLUGGED));
}

#[test]
fn requests_that_are_cut_short_are_errors_and_ones_without_room_are_not_served() {
    let mut guest = Guest::new(10);
    let plug = bytes_of(PLUG, START, 1);
    for len in [0, 1, 2, 8, 17, 18, 23] {
        let (used, answer) = guest.send(&plug[..len], 10);
        assert_eq!((used, answer[0]), (10, 3), "{len} bytes");
    }
    for room in 0..10 {
        assert_eq!(guest.send(&plug, room), (0, [0x77; 10]), "{room} bytes of room");
    }
    assert_eq!(guest.plugged(), 0);
    assert_eq!(guest.send(&[&plug[..], &[1; 40]].concat(), 600).1[0], 0);
    assert_eq!(guest.plugged(), 1);
}

#[test]
fn a_resize_is_announced_and_binds_from_then_on() {
    let mut guest = Guest::new(2);
    assert_eq!(guest.ask(PLUG, 0, 2), ACK);
    guest.driver.acknowledge();
    let generation = guest.driver.generation();
    guest.handle.with(|mem| mem.set_requested(5 * BLOCK)).unwrap();
    assert_eq!(guest.driver.acknowledge() & 2, 2, "a change of the configuration");
    assert_ne!(guest.driver.generation(), generation);
    assert_eq!(guest.field(48), 5 * BLOCK);
    assert_eq!(guest.ask(PLUG, 2, 3), ACK);

    guest.handle.with(|mem| mem.set_requested(BLOCK)).unwrap();
    assert_eq!(guest.ask(PLUG, 5, 1), NACK, "five are plugged of one");
    assert_eq!(guest.ask(UNPLUG, 0, 4), ACK);
    assert_eq!((guest.plugged(), guest.field(48)), (1, BLOCK));
}

#[test]
fn a_resize_that_cannot_be_is_refused_with_what_can() {
    let mut mem = mem(memory(), 2);
    for bytes in [BLOCK / 2, LEN + BLOCK, u64::MAX] {
        let error = mem.set_requested(bytes).unwrap_err().to_string();
        assert!(error.contains("multiples of 65536 bytes up to 9830400 bytes"), "{error}");
    }
    assert_eq!((mem.requested(), mem.most()), (2 * BLOCK, LEN));
    mem.set_requested(LEN).unwrap();
    mem.set_requested(0).unwrap();
}

#[test]
fn blocks_stay_plugged_over_a_reset_of_the_device() {
    let mut guest = Guest::new(10);
    assert_eq!(guest.ask(PLUG, 3, 4), ACK);
    guest.memory.write_obj(7_u8, GuestAddress(START + 3 * BLOCK)).unwrap();
    guest.driver.start(guest.driver.offered());
    assert_eq!(guest.plugged(), 4);
    assert_eq!(guest.memory.read_obj::<u8>(GuestAddress(START + 3 * BLOCK)).unwrap(), 7);
    assert_eq!(guest.ask(UNPLUG, 3, 4), ACK);
}

#[test]
fn a_snapshot_has_the_blocks_and_what_is_requested() {
    let mut guest = Guest::new(10);
    assert_eq!(guest.ask(PLUG, 63, 2), ACK);
    let mut guest =
        Guest { driver: guest.driver.transplant(virtio::mmio(mem(memory(), 0))), ..Guest::new(0) };
    assert_eq!((guest.field(40), guest.field(48)), (2 * BLOCK, 10 * BLOCK));
    assert_eq!(guest.state(63, 2), PLUGGED);
    assert_eq!(guest.ask(PLUG, 0, 9), NACK);
}

#[test]
fn a_snapshot_of_another_region_or_of_blocks_that_are_not_there_is_refused() {
    let mut mem = mem(memory(), 10);
    let state = mem.save().unwrap();
    let one = BLOCK;
    for wrong in [
        MemState { start: 0, ..state.clone() },
        MemState { len: LEN + one, ..state.clone() },
        MemState { block: 2 * one, ..state.clone() },
        MemState { requested: LEN + one, ..state.clone() },
        MemState { requested: 1, ..state.clone() },
        MemState { plugged: vec![0; 2], ..state.clone() },
        MemState { plugged: vec![1, 0, 1 << 22], ..state.clone() },
    ] {
        mem.restore(wrong.clone()).unwrap_err();
        assert_eq!(mem.save().unwrap(), state, "{wrong:x?}");
    }
    mem.restore(MemState { plugged: vec![1, 0, 1 << 21], ..state }).unwrap();
    assert_eq!(mem.plugged(), 2 * BLOCK);
}

#[test]
fn a_region_that_cannot_be_managed_is_refused_with_what_is_wrong() {
    let good = config();
    for (config, expected) in [
        (MemConfig { block: 0, ..good }, MemError::Block(0)),
        (MemConfig { block: 2048, ..good }, MemError::Block(2048)),
        (MemConfig { block: 3 << 20, ..good }, MemError::Block(3 << 20)),
        (MemConfig { len: 0, ..good }, MemError::Region { start: START, len: 0, block: BLOCK }),
        (
            MemConfig { len: LEN + 4096, ..good },
            MemError::Region { start: START, len: LEN + 4096, block: BLOCK },
        ),
        (
            MemConfig { start: GuestAddress(START + 4096), ..good },
            MemError::Region { start: START + 4096, len: LEN, block: BLOCK },
        ),
        (
            MemConfig { len: LEN + BLOCK, ..good },
            MemError::NoMemory { start: START, len: LEN + BLOCK },
        ),
        (MemConfig { start: GuestAddress(0), ..good }, MemError::NoMemory { start: 0, len: LEN }),
    ] {
        assert_eq!(Mem::new(memory(), config).map(drop), Err(expected));
    }
}
