//! A guest with a socket device, as a driver speaks to it, and a directory for the host's sockets.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use memory::{Bytes, GuestAddress};
use purlin_virtio_vsock::{Endpoint, Vsock, VsockConfig};
use virtio::{
    Handle,
    conformance::{BUFFERS, Driver},
    mmio,
};

pub(crate) const REQUEST: u16 = 1;
pub(crate) const RESPONSE: u16 = 2;
pub(crate) const RST: u16 = 3;
pub(crate) const SHUTDOWN: u16 = 4;
pub(crate) const RW: u16 = 5;
pub(crate) const CREDIT_UPDATE: u16 = 6;
pub(crate) const CREDIT_REQUEST: u16 = 7;

/// Flags of `SHUTDOWN`.
pub(crate) const RECEIVE: u32 = 1;
pub(crate) const SEND: u32 = 2;

pub(crate) const HOST: u64 = 2;
pub(crate) const GUEST: u64 = 3;

const HEADER: u32 = 44;
const TX: u64 = BUFFERS;
const EVENT: u64 = BUFFERS + 0x7_0000;
const RX: u64 = BUFFERS + 0x4_0000;
/// Room for data in one packet to the guest.
pub(crate) const ROOM: u32 = 0x2_0000;
const LIMIT: Duration = Duration::from_secs(20);

/// A directory of a test's own, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pvs-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) src: (u64, u32),
    pub(crate) dst: (u64, u32),
    pub(crate) kind: u16,
    pub(crate) op: u16,
    pub(crate) flags: u32,
    pub(crate) buf_alloc: u32,
    pub(crate) fwd_cnt: u32,
    /// What the header says of the length, if that is not the data's.
    pub(crate) len: Option<u32>,
    pub(crate) data: Vec<u8>,
}

impl Packet {
    /// From port `from` of the guest to port `to` of the host, with 64 KiB of credit.
    pub(crate) fn new(op: u16, from: u32, to: u32) -> Self {
        Self {
            src: (GUEST, from),
            dst: (HOST, to),
            kind: 1,
            op,
            flags: 0,
            buf_alloc: 0x1_0000,
            fwd_cnt: 0,
            len: None,
            data: Vec::new(),
        }
    }

    pub(crate) fn data(op: u16, from: u32, to: u32, data: &[u8]) -> Self {
        Self { data: data.to_vec(), ..Self::new(op, from, to) }
    }

    fn header(&self) -> Vec<u8> {
        let len = self.len.unwrap_or(u32::try_from(self.data.len()).unwrap());
        let mut bytes = Vec::new();
        bytes.extend(self.src.0.to_le_bytes());
        bytes.extend(self.dst.0.to_le_bytes());
        bytes.extend(self.src.1.to_le_bytes());
        bytes.extend(self.dst.1.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.op.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.buf_alloc.to_le_bytes());
        bytes.extend(self.fwd_cnt.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Self {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
        assert_eq!(word(24), u32::try_from(bytes.len()).unwrap() - HEADER, "len is the data's");
        Self {
            src: (long(0), word(16)),
            dst: (long(8), word(20)),
            kind: half(28),
            op: half(30),
            flags: word(32),
            buf_alloc: word(36),
            fwd_cnt: word(40),
            len: None,
            data: bytes[44..].to_vec(),
        }
    }
}

/// A guest.
pub(crate) struct Guest {
    pub(crate) driver: Driver,
    pub(crate) handle: Handle<Vsock>,
    pub(crate) scratch: Scratch,
    /// Whether a buffer for the next packet is with the device.
    pub(crate) offered: bool,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self::with(VsockConfig::default())
    }

    pub(crate) fn with(config: VsockConfig) -> Self {
        let scratch = Scratch::new();
        let endpoint = Endpoint::bind(scratch.path("v")).unwrap();
        let vsock = Vsock::new(endpoint, config).unwrap();
        let (mut driver, handle) = Driver::with_handle(mmio(vsock));
        driver.start(driver.offered());
        let mut guest = Self { driver, handle, scratch, offered: false };
        guest.offer_event();
        guest
    }

    /// Offers a buffer for an event, as drivers always do.
    pub(crate) fn offer_event(&mut self) {
        self.driver.queues[2].offer(&[(EVENT, 4, true)]);
        self.driver.kick_and_run(2);
    }

    pub(crate) fn connections(&self) -> usize {
        self.handle.with(|vsock| vsock.connections())
    }

    /// A host program that waits for the guest on `port`.
    pub(crate) fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.scratch.path(&format!("v_{port}"))).unwrap()
    }

    /// A host program that connects, and says `greeting`.
    pub(crate) fn dial(&self, greeting: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.scratch.path("v")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(greeting.as_bytes()).unwrap();
        stream
    }

    /// Offers a packet to the device: whether it was taken.
    pub(crate) fn offer(&mut self, packet: &Packet) -> bool {
        let memory = self.driver.memory();
        memory.write_slice(&packet.header(), GuestAddress(TX)).unwrap();
        let after = TX + u64::from(HEADER);
        memory.write_slice(&packet.data, GuestAddress(after)).unwrap();
        // The header is cut, as a driver may do.
        let mut chain = vec![(TX, 20, false), (TX + 20, HEADER - 20, false)];
        if !packet.data.is_empty() {
            chain.push((after, u32::try_from(packet.data.len()).unwrap(), false));
        }
        self.driver.queues[1].offer(&chain);
        self.driver.kick_and_run(1);
        match self.driver.queues[1].used()[..] {
            [] => false,
            [(_, 0)] => true,
            ref used => panic!("a packet came back as {used:?}"),
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        assert!(self.offer(packet), "the device does not take a packet");
    }

    /// The next packet, if there is one now.
    pub(crate) fn recv(&mut self) -> Option<Packet> {
        if !self.offered {
            let head = HEADER - 7;
            let tail = (RX + u64::from(head), ROOM + 7, true);
            self.driver.queues[0].offer(&[(RX, head, true), tail]);
            self.driver.kick(0);
            self.offered = true;
        }
        self.driver.run();
        let used = self.driver.queues[0].used();
        let &[(_, len)] = &used[..] else {
            assert!(used.is_empty(), "more came back than was offered: {used:?}");
            return None;
        };
        self.offered = false;
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        self.driver.memory().read_slice(&mut bytes, GuestAddress(RX)).unwrap();
        let packet = Packet::parse(&bytes);
        assert_eq!(packet.dst.0, GUEST, "it is for another: {packet:?}");
        Some(packet)
    }

    /// The next packet, within a while.
    pub(crate) fn recv_soon(&mut self) -> Packet {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(packet) = self.recv() {
                return packet;
            }
            assert!(Instant::now() < end, "no packet comes");
            std::thread::yield_now();
        }
    }

    /// The next packet, which is an `op` from port `from` to port `to`.
    pub(crate) fn expect(&mut self, op: u16, from: u32, to: u32) -> Packet {
        let packet = self.recv_soon();
        assert_eq!((packet.op, packet.src.1, packet.dst.1), (op, from, to), "{packet:?}");
        packet
    }

    /// Nothing is left to receive.
    pub(crate) fn expect_nothing(&mut self) {
        assert_eq!(self.recv(), None);
    }

    /// Lets the device work until `done`.
    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(self) {
            assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
            self.driver.run();
            std::thread::yield_now();
        }
    }

    /// Connects port `from` to who listens on port `to` of the host, with 64 KiB of credit.
    pub(crate) fn connect(&mut self, from: u32, to: u32, listener: &UnixListener) -> UnixStream {
        self.send(&Packet::new(REQUEST, from, to));
        self.expect(RESPONSE, to, from);
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// A host program that talks to port `to`, and its own port.
    pub(crate) fn accept(&mut self, to: u32) -> (BufReader<UnixStream>, u32) {
        let stream = self.dial(&format!("CONNECT {to}\n"));
        let request = self.recv_soon();
        assert_eq!((request.op, request.src.0, request.dst.1), (REQUEST, HOST, to));
        let port = request.src.1;
        self.send(&Packet::new(RESPONSE, to, port));
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert_eq!(line, format!("OK {port}\n"));
        (stream, port)
    }
}

/// `len` bytes that repeat with a period of a prime, beginning anywhere.
pub(crate) fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at + seed) * 7 % 251).unwrap()).collect()
}
