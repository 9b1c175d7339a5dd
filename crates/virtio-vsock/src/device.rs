//! The device.

use std::{
    collections::VecDeque,
    fmt, io,
    io::{Read, Write},
    os::fd::RawFd,
    sync::Arc,
};

use device::{Persist, RestoreError, SaveError};
use virtio::{Chain, Device, Served};

use crate::{
    Endpoint, VsockConfig, VsockState,
    packet::{HEADER, HEADER_LEN, HOST, Header, Op, STREAM},
    sockets::Sockets,
};

/// The queue of packets to the guest.
const RX: u16 = 0;
/// The queue of packets from the guest.
const TX: u16 = 1;

/// There are stream sockets (virtio 1.3 §5.10.3).
const F_STREAM: u64 = 1 << 0;
/// Without `F_STREAM` there are none, even if no other type was agreed on.
const F_NO_IMPLIED_STREAM: u64 = 1 << 2;

/// The event `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`.
const TRANSPORT_RESET: [u8; 4] = [0; 4];

/// The most refusals that wait for the guest to take them; then it has to, before it sends more.
const REFUSALS: usize = 64;

/// The socket device: stream sockets between a guest and host programs.
pub struct Vsock {
    cid: u64,
    space: [u8; 8],
    sockets: Sockets,
    /// Resets for packets that belong to no connection.
    refusals: VecDeque<Header>,
    /// Whether the last packet to the guest was one of them.
    refused_last: bool,
    /// Whether stream sockets were agreed on.
    streams: bool,
    /// Whether the guest has to hear that its connections are gone.
    restored: bool,
}

impl Vsock {
    /// A device whose host programs meet at `endpoint`. An [`Arc`] of it can be kept, to have the
    /// socket outlive the device.
    ///
    /// # Errors
    /// The host gives no descriptor.
    pub fn new(endpoint: impl Into<Arc<Endpoint>>, config: VsockConfig) -> io::Result<Self> {
        let cid = u64::from(config.cid.get());
        Ok(Self {
            cid,
            space: cid.to_le_bytes(),
            sockets: Sockets::new(endpoint.into(), config)?,
            refusals: VecDeque::with_capacity(REFUSALS),
            refused_last: false,
            streams: true,
            restored: false,
        })
    }

    /// How many connections there are, with those that are about to be or about to end.
    pub fn connections(&self) -> usize {
        self.sockets.connections()
    }

    /// A packet from the guest.
    fn take(&mut self, chain: &mut Chain<'_>) -> Served {
        if self.refusals.len() >= REFUSALS {
            return Served::Stall;
        }
        let mut bytes = [0; HEADER];
        let read = chain.reader.read_exact(&mut bytes).ok();
        let Some(header) = read.and_then(|()| Header::parse(&bytes)) else {
            return Served::Used(0);
        };
        if header.src_cid != self.cid {
            // An answer would not reach whoever sent this.
            return Served::Used(0);
        }
        let ours = header.dst_cid == HOST && header.kind == STREAM && self.streams;
        let taken = ours && self.sockets.receive(&header, &mut chain.reader);
        if !taken && header.op != Some(Op::Reset) {
            self.refusals.push_back(header.refusal());
        }
        Served::Used(0)
    }

    /// A packet to the guest.
    fn give(&mut self, chain: &mut Chain<'_>) -> Served {
        // Room for a header alone is none: data would never fit.
        let room = chain.writer.available_bytes() > HEADER;
        let Some(mut data) = room.then(|| chain.writer.split_at(HEADER).ok()).flatten() else {
            return Served::Used(0);
        };
        let refusal = if self.refused_last { None } else { self.refusals.pop_front() };
        self.refused_last = refusal.is_some();
        let header = refusal
            .or_else(|| self.sockets.next(self.cid, &mut data))
            .or_else(|| self.refusals.pop_front());
        let Some(header) = header else { return Served::Stall };
        match chain.writer.write_all(&header.bytes()) {
            Ok(()) => Served::Used(HEADER_LEN.saturating_add(header.len)),
            Err(_) => Served::Used(0),
        }
    }

    /// An event for the guest.
    fn announce(&mut self, chain: &mut Chain<'_>) -> Served {
        // This queue nearly always waits, so it is asked whenever a socket is ready, even while the
        // guest has no room for packets.
        self.sockets.catch_up();
        if !self.restored {
            return Served::Stall;
        }
        match chain.writer.write_all(&TRANSPORT_RESET) {
            Ok(()) => {
                self.restored = false;
                Served::Used(4)
            }
            Err(_) => Served::Used(0),
        }
    }
}

impl Device for Vsock {
    const ID: u32 = 19;

    fn features(&self) -> u64 {
        F_STREAM | F_NO_IMPLIED_STREAM
    }

    fn queues(&self) -> &[u16] {
        &[256, 256, 16]
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn negotiated(&mut self, features: u64) {
        self.streams = features & (F_STREAM | F_NO_IMPLIED_STREAM) != F_NO_IMPLIED_STREAM;
    }

    fn reset(&mut self) {
        self.sockets.clear();
        self.refusals.clear();
        (self.refused_last, self.streams, self.restored) = (false, true, false);
    }

    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served {
        match queue {
            RX => self.give(chain),
            TX => self.take(chain),
            _ => self.announce(chain),
        }
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.sockets.fd()]
    }
}

impl Persist for Vsock {
    type State = VsockState;

    fn save(&mut self) -> Result<VsockState, SaveError> {
        Ok(VsockState {})
    }

    /// The guest's connections are not here; it is told so.
    fn restore(&mut self, _: VsockState) -> Result<(), RestoreError> {
        self.reset();
        self.restored = true;
        Ok(())
    }
}

impl fmt::Debug for Vsock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vsock")
            .field("cid", &self.cid)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
