//! One pair of queues: packets between its link and the guest.

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
};

use net::{HEADER, Link, MAX_PACKET, MIN_PACKET};
use rate::Throttle;
use virtio::{Chain, Reader, Served, Writer};

use crate::{Counters, feature::MRG_RXBUF, header::Header};

/// Packets of at most so many bytes are small.
const SMALL: usize = 2048;
/// How many packets may be dropped for one chain: then the chain goes.
const DROPS: usize = 64;

/// A link and where it stands.
pub(crate) struct Pair {
    pub(crate) link: Box<dyn Link>,
    /// The link has taken the first chain of the transmit queue but not sent all of it.
    flushing: bool,
}

/// What the pairs of a card share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What the driver has accepted.
    pub(crate) features: u64,
    /// Whether the cable is plugged in.
    pub(crate) plugged: bool,
    pub(crate) receive: Throttle,
    pub(crate) transmit: Throttle,
    pub(crate) counters: Counters,
    /// Room for one packet on its way from the guest.
    pub(crate) bounce: Box<[u8]>,
    /// How often the host has refused a packet, for the log.
    pub(crate) failures: u64,
}

/// What became of a packet on its way out.
enum Sent {
    Gone,
    Later,
    Dropped,
}

impl Pair {
    pub(crate) fn new(link: Box<dyn Link>) -> Self {
        Self { link, flushing: false }
    }

    pub(crate) fn reset(&mut self) {
        self.flushing = false;
    }

    /// Gives the guest the next packet.
    pub(crate) fn receive(&mut self, shared: &mut Shared, chain: &mut Chain<'_>) -> Served {
        let header = self.link.abilities().header;
        for _ in 0..DROPS {
            // A link that is down has nothing any more, and says so in its status.
            let Ok(packet) = self.link.peek() else { return Served::Stall };
            let mut packet = packet;
            let mut work = Header::PLAIN;
            if header && let Some((first, rest)) = packet.split_first_chunk() {
                (work, packet) = (Header(*first), rest);
            }
            let room = chain.writer.available_bytes();
            let total = HEADER + packet.len();
            match u32::try_from(total) {
                Ok(total)
                    if shared.plugged && usize::try_from(total).is_ok_and(|it| it <= room) =>
                {
                    let len = u64::try_from(packet.len()).unwrap_or(u64::MAX);
                    if !shared.receive.take(1, len) {
                        return Served::Stall;
                    }
                    let work = work.with_buffers(chain.count);
                    let written = deliver(&mut shared.bounce, work, packet, &mut chain.writer);
                    shared.counters.receive(packet.len());
                    self.link.pop();
                    return Served::Used(written.map_or(0, |()| total));
                }
                Ok(total) if shared.plugged && shared.features & MRG_RXBUF != 0 => {
                    return Served::Merge(total);
                }
                _ => {
                    let dropped = &mut shared.counters.receive_dropped;
                    *dropped = dropped.saturating_add(1);
                    self.link.pop();
                }
            }
        }
        Served::Used(0)
    }

    /// Sends the packet of the guest.
    pub(crate) fn transmit(&mut self, shared: &mut Shared, chain: &mut Chain<'_>) -> Served {
        if self.flushing {
            if self.is_blocked() {
                return Served::Stall;
            }
            // This is the chain that was sent before.
            self.flushing = false;
            return Served::Used(0);
        }
        let Some((header, len)) = decode(shared, &chain.reader).filter(|_| shared.plugged) else {
            return drop_packet(shared);
        };
        let bytes = u64::try_from(len).unwrap_or(u64::MAX);
        if !shared.transmit.take(1, bytes) {
            return Served::Stall;
        }
        match self.send(shared, &mut chain.reader, header) {
            Sent::Gone => shared.counters.transmit(len),
            Sent::Dropped => return drop_packet(shared),
            Sent::Later => {
                shared.transmit.give_back(1, bytes);
                return Served::Stall;
            }
        }
        if self.is_blocked() {
            self.flushing = true;
            return Served::Stall;
        }
        Served::Used(0)
    }

    fn is_blocked(&mut self) -> bool {
        self.link.flush().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn send(&mut self, shared: &mut Shared, reader: &mut Reader<'_>, header: Header) -> Sent {
        let abilities = self.link.abilities();
        let result = if abilities.direct && abilities.header {
            // The kernel copies the header again, and checks what it has copied.
            let count = reader.available_bytes();
            reader.write_to(self.link.fd(), None, count).map(drop)
        } else {
            let Some((first, room)) = shared.bounce.split_first_chunk_mut() else {
                return Sent::Dropped;
            };
            *first = header.0;
            let copied = reader.split_at(HEADER).and_then(|mut packet| packet.read(room));
            let skip = if abilities.header { 0 } else { HEADER };
            copied.and_then(|copied| {
                let packet = shared.bounce.get(skip..HEADER + copied).unwrap_or_default();
                self.link.send(packet)
            })
        };
        match result {
            Ok(()) => Sent::Gone,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Later,
            Err(error) => {
                shared.failures = shared.failures.saturating_add(1);
                if shared.failures.is_power_of_two() && self.link.is_up() {
                    let count = shared.failures;
                    log::debug!("the host refuses a packet: {error} ({count} so far)");
                }
                Sent::Dropped
            }
        }
    }
}

/// Gives a packet and its header to the guest. Small ones in one piece: what costs is each access to guest
/// memory, not the bytes.
fn deliver(
    bounce: &mut [u8],
    header: Header,
    packet: &[u8],
    writer: &mut Writer<'_>,
) -> io::Result<()> {
    let whole = bounce.get_mut(..HEADER + packet.len()).filter(|_| packet.len() <= SMALL);
    match whole.and_then(|whole| whole.split_first_chunk_mut()) {
        Some((first, rest)) => {
            *first = header.0;
            rest.copy_from_slice(packet);
            writer.write_all(bounce.get(..HEADER + packet.len()).unwrap_or_default())
        }
        None => {
            writer.write_obj(header.0)?;
            writer.write_all(packet)
        }
    }
}

/// The header of a packet that may be sent, and the packet's length without it.
fn decode(shared: &Shared, reader: &Reader<'_>) -> Option<(Header, usize)> {
    let len = reader.available_bytes().checked_sub(HEADER)?;
    let header = Header(reader.clone().read_obj().ok()?);
    let fits = (MIN_PACKET..=MAX_PACKET).contains(&len) && header.is_fit(shared.features, len);
    fits.then_some((header, len))
}

fn drop_packet(shared: &mut Shared) -> Served {
    shared.counters.transmit_dropped = shared.counters.transmit_dropped.saturating_add(1);
    Served::Used(0)
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("up", &self.link.is_up())
            .field("flushing", &self.flushing)
            .finish_non_exhaustive()
    }
}
