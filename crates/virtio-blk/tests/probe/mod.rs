//! A disk that tells what was asked of it, and a driver for requests.

use std::{
    io,
    sync::{Arc, Mutex},
};

use disk::{Disk, Memory};
use memory::{Bytes, GuestAddress};
use purlin_virtio_blk::{Blk, BlkConfig, Cache};
use virtio::{Handle, conformance::BUFFERS, conformance::Driver, mmio};

/// A mebibyte.
pub(crate) const SECTORS: u64 = 2048;
pub(crate) const OK: u8 = 0;
pub(crate) const IOERR: u8 = 1;
pub(crate) const UNSUPP: u8 = 2;
/// What a status is before the device writes it.
pub(crate) const UNTOUCHED: u8 = 0xee;

const HEADER: u64 = BUFFERS;
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x7_0000;

/// What was asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read(u64, usize),
    Write(u64, usize),
    Flush,
    Discard(u64, u64),
    WriteZeroes(u64, u64, bool),
}

/// A disk in memory that keeps a list of calls. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) calls: Arc<Mutex<Vec<Call>>>,
    memory: Arc<Mutex<Memory>>,
    pub(crate) read_only: bool,
    /// What every call fails with, from this one on.
    pub(crate) fault: Arc<Mutex<Option<(usize, io::ErrorKind)>>>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        let memory = Arc::new(Mutex::new(Memory::new(SECTORS).unwrap()));
        Self { calls: Arc::default(), memory, read_only: false, fault: Arc::default() }
    }

    pub(crate) fn fail(&self, after: usize, with: io::ErrorKind) {
        *self.fault.lock().unwrap() = Some((after, with));
    }

    /// The calls since the last call of this.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// The content, without a call.
    pub(crate) fn content(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.lock().unwrap().read_at(offset, &mut bytes).unwrap();
        bytes
    }

    fn call(&self, call: Call) -> io::Result<std::sync::MutexGuard<'_, Memory>> {
        let mut calls = self.calls.lock().unwrap();
        calls.push(call);
        match *self.fault.lock().unwrap() {
            Some((after, kind)) if calls.len() > after => Err(kind.into()),
            _ => Ok(self.memory.lock().unwrap()),
        }
    }
}

impl Disk for Probe {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.call(Call::Read(offset, buf.len()))?.read_at(offset, buf)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call(Call::Write(offset, data.len()))?.write_at(offset, data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.call(Call::Flush)?.flush()
    }

    fn len(&self) -> u64 {
        SECTORS * 512
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.call(Call::Discard(offset, len))?.discard(offset, len)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.call(Call::WriteZeroes(offset, len, unmap))?.write_zeroes(offset, len, unmap)
    }
}

/// A header as the guest writes it.
pub(crate) fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend([0xaa; 4]); // reserved: nothing depends on it
    bytes.extend(sector.to_le_bytes());
    bytes
}

/// A range to discard or zero.
pub(crate) fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

/// A guest with a disk.
pub(crate) struct Guest {
    pub(crate) driver: Driver,
    pub(crate) handle: Handle<Blk>,
    pub(crate) probe: Probe,
}

impl Guest {
    /// A driver that accepts everything but `not`.
    pub(crate) fn new(probe: Probe, cache: Cache, not: u64) -> Self {
        let blk =
            Blk::new(probe.clone(), BlkConfig { cache, identity: "a-probe".parse().unwrap() });
        let (mut driver, handle) = Driver::with_handle(mmio(blk));
        driver.start(driver.offered() & !not);
        Self { driver, handle, probe }
    }

    pub(crate) fn plain() -> Self {
        Self::new(Probe::new(), Cache::default(), 0)
    }

    /// Makes a request of `readable` and room for `room` bytes and a status: the status, the used
    /// length, and what is in the room.
    pub(crate) fn ask(&mut self, readable: &[u8], room: u32) -> (u8, u32, Vec<u8>) {
        let memory = self.driver.memory().clone();
        let mut answer = vec![0x77; usize::try_from(room).unwrap()];
        memory.write_slice(readable, GuestAddress(HEADER)).unwrap();
        let after = DATA.max(HEADER + u64::try_from(readable.len()).unwrap());
        memory.write_slice(&answer, GuestAddress(after)).unwrap();
        memory.write_obj(UNTOUCHED, GuestAddress(STATUS)).unwrap();
        let out = (HEADER, u32::try_from(readable.len()).unwrap(), false);
        let buffers = [out, (after, room, true), (STATUS, 1, true)];
        let chain: Vec<_> = buffers.into_iter().filter(|buffer| buffer.1 > 0).collect();
        let head = self.driver.queues[0].offer(&chain);
        self.driver.kick_and_run(0);
        let [(back, len)] = self.driver.queues[0].used()[..] else { panic!("not one chain") };
        assert_eq!(back, u32::from(head));
        memory.read_slice(&mut answer, GuestAddress(after)).unwrap();
        (memory.read_obj(GuestAddress(STATUS)).unwrap(), len, answer)
    }

    /// The status of a request without an answer.
    pub(crate) fn status(&mut self, readable: &[Vec<u8>]) -> u8 {
        let (status, len, _) = self.ask(&readable.concat(), 0);
        assert_eq!(len, 1);
        status
    }
}
