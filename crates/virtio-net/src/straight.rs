//! Large packets straight from a link's descriptor into the guest's buffers, without a copy of ours.
//!
//! How long a packet is shows only when it has been read. So the buffers of as many chains as the longest
//! one may need are collected beforehand, and what they have no room for goes to a buffer of ours: then
//! there was one packet too many, and it is kept until the driver has offered more.

use std::{
    fmt,
    io::{self, ErrorKind},
    os::fd::BorrowedFd,
};

use net::{HEADER, MAX_PACKET};
use virtio::{Chain, Writer};

use crate::receive::SMALL;

/// Room that is collected for a packet, bytes. The very longest need a few more; they are rarer than
/// another chain for each packet is dear.
const ROOM: u32 = 64 << 10;
/// After a large packet so many more are expected; of those that are small each takes one off.
const STREAK: u8 = 8;

/// Packets that go straight to the guest.
#[derive(Default)]
pub(crate) struct Straight {
    /// How many packets are expected to be large.
    streak: u8,
    /// Room for one packet; made with the first one.
    room: Box<[u8]>,
    /// A packet that the guest had no room for: its bytes in `room`.
    held: Option<usize>,
}

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The guest has a packet of so many bytes, with its header.
    Packet(u32),
    /// None has come.
    Nothing,
    /// Room for so many bytes is to be collected first, as far as there is.
    Gather(u32),
    /// It has to go another way: a packet is held, or there is something to say of the link.
    Otherwise,
}

impl Straight {
    /// Whether the next packet is expected to be large, and none is held.
    pub(crate) fn is_expected(&self) -> bool {
        self.streak > 0 && self.held.is_none()
    }

    /// Takes note of a packet's length.
    pub(crate) fn note(&mut self, bytes: usize) {
        self.streak = if bytes > SMALL { STREAK } else { self.streak.saturating_sub(1) };
    }

    /// The packet that is held, with its header.
    pub(crate) fn packet(&self) -> Option<&[u8]> {
        self.room.get(..self.held?)
    }

    /// Forgets the packet that is held. Whether there was one.
    pub(crate) fn drop_packet(&mut self) -> bool {
        self.held.take().is_some()
    }

    /// Reads the next packet from `link` into `chain`, which may become longer if `merges`.
    pub(crate) fn read(
        &mut self,
        link: BorrowedFd<'_>,
        merges: bool,
        chain: &mut Chain<'_>,
    ) -> Read {
        let room = chain.writer.available_bytes();
        if merges && !chain.is_gathered() && u32::try_from(room).is_ok_and(|room| room < ROOM) {
            return Read::Gather(ROOM);
        }
        if self.room.is_empty() {
            self.room = vec![0; HEADER + MAX_PACKET].into_boxed_slice();
        }
        let start = chain.writer.clone();
        let rest = self.room.get_mut(room..).unwrap_or_default();
        match chain.writer.read_from_with(link, rest) {
            // The end of the link; it says so itself.
            Ok(bytes) if bytes < HEADER => Read::Otherwise,
            Ok(bytes) if bytes <= room => self.accept(bytes, start, chain),
            Ok(bytes) => {
                // The other bytes are behind these already.
                let kept = self.room.get_mut(..room).map(|front| start.read_back(front));
                self.held = kept.is_some_and(|kept| kept.is_ok()).then_some(bytes);
                Read::Otherwise
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Read::Nothing,
            Err(_) => Read::Otherwise,
        }
    }

    /// Completes the header of a packet that is where it belongs.
    fn accept(&mut self, bytes: usize, start: Writer<'_>, chain: &Chain<'_>) -> Read {
        self.note(bytes);
        match (put_buffers(start, chain.chains_for(bytes)), u32::try_from(bytes)) {
            (Ok(()), Ok(bytes)) => Read::Packet(bytes),
            // There is room for a header, and no packet has 4 GiB.
            _ => Read::Otherwise,
        }
    }
}

/// Says in how many chains the packet is.
fn put_buffers(mut header: Writer<'_>, count: u16) -> io::Result<()> {
    header.split_at(HEADER - 2)?.write_obj(count.to_le_bytes())
}

impl fmt::Debug for Straight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Straight")
            .field("streak", &self.streak)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
