//! One pair of queues: packets between its link and the guest.

use std::{
    fmt,
    io::{ErrorKind, Read},
};

use net::{Abilities, HEADER, Link, MAX_PACKET, MIN_PACKET};
use rate::Throttle;
use virtio::{Chain, Reader, Served};

use crate::{Counters, header::Header, straight::Straight};

/// A link and where it stands.
pub(crate) struct Pair {
    pub(crate) link: Box<dyn Link>,
    /// What the link can do.
    pub(crate) abilities: Abilities,
    /// The link has taken the first chain of the transmit queue but not sent all of it.
    flushing: bool,
    /// The link shows a packet, which goes before those that it has not shown.
    pub(crate) shown: bool,
    /// Packets that go straight to the guest.
    pub(crate) straight: Straight,
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
        let abilities = link.abilities();
        Self { link, abilities, flushing: false, shown: false, straight: Straight::default() }
    }

    pub(crate) fn reset(&mut self) {
        self.flushing = false;
        self.straight.drop_packet();
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
        let abilities = self.abilities;
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
