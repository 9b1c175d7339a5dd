//! A disk in a file in memory, and a driver that has many requests under way.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, RawFd},
        unix::fs::FileExt,
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use disk::{Disk, SECTOR};
use memory::{Bytes, GuestAddress};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::memfd::{MFdFlags, memfd_create},
};
use purlin_virtio_blk::Blk;
use virtio::{Handle, conformance::BUFFERS, conformance::Driver, mmio};

/// A mebibyte.
pub(crate) const SECTORS: u64 = 2048;
pub(crate) const OK: u8 = 0;
pub(crate) const IOERR: u8 = 1;
pub(crate) const IN: u32 = 0;
pub(crate) const OUT: u32 = 1;
pub(crate) const FLUSH: u32 = 4;
const LIMIT: Duration = Duration::from_secs(10);

/// A disk whose bytes are those of a file, without a lock.
pub(crate) struct Plain {
    pub(crate) file: File,
    len: u64,
    pub(crate) align: usize,
    /// How often data did not go straight to the file.
    pub(crate) copied: Arc<AtomicUsize>,
}

impl Plain {
    /// A disk on which every sector begins with its number.
    pub(crate) fn new() -> Self {
        let file = File::from(memfd_create(c"disk", MFdFlags::empty()).unwrap());
        for sector in 0..SECTORS {
            file.write_all_at(&sector.to_le_bytes(), sector * SECTOR).unwrap();
        }
        file.set_len(SECTORS * SECTOR).unwrap();
        Self::over(file)
    }

    /// A disk of which nothing can be written, because its host is full; it is all zeroes.
    pub(crate) fn full() -> Self {
        Self::over(File::options().read(true).write(true).open("/dev/full").unwrap())
    }

    /// A disk of a mebibyte whose bytes are those of `file`, whatever that is.
    pub(crate) fn over(file: File) -> Self {
        Self { file, len: SECTORS * SECTOR, align: 1, copied: Arc::default() }
    }

    pub(crate) fn again(&self) -> Self {
        Self { file: self.file.try_clone().unwrap(), copied: Arc::clone(&self.copied), ..*self }
    }

    pub(crate) fn sector(&self, sector: u64) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        self.file.read_exact_at(&mut bytes, sector * SECTOR).unwrap();
        bytes
    }
}

impl Disk for Plain {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.copied.fetch_add(1, Ordering::Relaxed);
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.copied.fetch_add(1, Ordering::Relaxed);
        self.file.write_all_at(data, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn discard(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, _: bool) -> io::Result<()> {
        self.file.write_all_at(&vec![0; usize::try_from(len).unwrap()], offset)
    }

    fn file(&self) -> Option<disk::Bytes<'_>> {
        Some(disk::Bytes { fd: self.file.as_fd(), align: self.align })
    }

    fn refresh(&mut self) -> io::Result<u64> {
        self.len = self.file.metadata()?.len();
        Ok(self.len)
    }
}

/// Requests of a sector each, which have a place in RAM by their number.
pub(crate) struct Guest {
    pub(crate) driver: Driver,
    pub(crate) handle: Handle<Blk>,
    sources: Vec<RawFd>,
}

const HEADERS: u64 = BUFFERS;
const TABLES: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x2000;
const DATA: u64 = BUFFERS + 0x4000;
const UNTOUCHED: u8 = 0xee;

impl Guest {
    pub(crate) fn new(blk: Blk) -> Self {
        let (mut driver, handle) = Driver::with_handle(mmio(blk));
        driver.start(driver.offered());
        // Asked for once: a device that is touched looks at its queues again, whatever its sources say.
        let sources = handle.with(|blk| virtio::Device::sources(blk));
        Self { driver, handle, sources }
    }

    /// The same guest on another device, as after a snapshot.
    pub(crate) fn transplant(self, blk: Blk) -> Self {
        Self { driver: self.driver.transplant(mmio(blk)), ..self }
    }

    /// Offers request `number` on `queue`, without a notification. There is room for 16 at a time.
    pub(crate) fn offer(&mut self, queue: usize, number: u64, (kind, sector): (u32, u64)) {
        let memory = self.driver.memory().clone();
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        let (head, status) = (HEADERS + number * 16, STATUS + number);
        memory.write_slice(&header, GuestAddress(head)).unwrap();
        memory.write_obj(UNTOUCHED, GuestAddress(status)).unwrap();
        let data = (DATA + number * 512, 512, kind == IN);
        let chain = [(head, 16, false), data, (status, 1, true)];
        let chain = chain.into_iter().filter(|(addr, ..)| kind != FLUSH || *addr != data.0);
        let chain: Vec<_> = chain.collect();
        self.driver.queues[queue].offer_indirect(TABLES + number * 64, &chain);
    }

    /// Lets the device work until `count` requests of `queue` are back.
    pub(crate) fn wait(&mut self, queue: usize, count: usize) {
        let start = std::time::Instant::now();
        let mut back = self.driver.queues[queue].used().len();
        while back < count {
            assert!(start.elapsed() < LIMIT, "{back} of {count} requests are back");
            self.driver.run();
            back += self.driver.queues[queue].used().len();
            if back < count {
                self.sleep();
            }
        }
        assert_eq!(back, count);
    }

    /// Waits until the host has something for the device, or a moment.
    fn sleep(&self) {
        for source in &self.sources {
            let source = File::open(format!("/proc/self/fd/{source}"));
            let Ok(source) = source else { continue };
            let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(10_u16));
        }
    }

    /// The status of request `number`, and what is in its place.
    pub(crate) fn answer(&self, number: u64) -> (u8, Vec<u8>) {
        let memory = self.driver.memory();
        let mut data = vec![0; 512];
        memory.read_slice(&mut data, GuestAddress(DATA + number * 512)).unwrap();
        (memory.read_obj(GuestAddress(STATUS + number)).unwrap(), data)
    }

    pub(crate) fn put(&self, number: u64, data: &[u8]) {
        self.driver.memory().write_slice(data, GuestAddress(DATA + number * 512)).unwrap();
    }
}
