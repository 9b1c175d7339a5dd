//! What a network is to a network card.

use std::{io, os::fd::BorrowedFd};

/// The most bytes of a packet: an IP packet of 64 KiB in a tagged Ethernet frame. What is longer comes
/// from segmentation offloads that nobody here has.
pub const MAX_PACKET: usize = 65_535 + 14 + 4;
/// The fewest bytes of a packet: the header of an Ethernet frame.
pub const MIN_PACKET: usize = 14;
/// Size of the header in front of each packet of a link that has one: `struct virtio_net_hdr_v1`
/// (virtio 1.3 §5.1.6), little endian.
pub const HEADER: usize = 12;

/// One pair of queues of a network: packets come and go, none of them waits.
///
/// Packets are Ethernet frames without checksum sequence. A link whose [`Abilities::header`] is set
/// has [`HEADER`] bytes in front of each, in both directions; they count as part of the packet.
pub trait Link: Send {
    /// Becomes readable when a packet has come or the link goes down, writable when one can be sent
    /// again. To be watched edge-triggered; stays the same as long as the link lives.
    fn fd(&self) -> BorrowedFd<'_>;

    /// What the link can do; never changes.
    fn abilities(&self) -> Abilities;

    /// Says which packets may come that only a card with these offloads understands. None at first.
    ///
    /// # Errors
    /// The host refuses; the link is as before.
    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()>;

    /// Whether packets are to come and go here, or by other pairs of the same network. A link is
    /// active at first.
    ///
    /// # Errors
    /// The host refuses; the link is as before.
    fn set_active(&mut self, _active: bool) -> io::Result<()> {
        Ok(())
    }

    /// The packet that has come, the same one until [`pop`](Self::pop) lets go of it.
    ///
    /// # Errors
    /// `WouldBlock` if there is none. Anything else is a link that is down.
    fn peek(&mut self) -> io::Result<&[u8]>;

    /// Lets go of the packet that [`peek`](Self::peek) has shown.
    fn pop(&mut self);

    /// Sends a packet, which is taken whole or not at all.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room: it is worth trying again when the descriptor is writable.
    /// With anything else the packet cannot be sent, now or later.
    fn send(&mut self, packet: &[u8]) -> io::Result<()>;

    /// Sends what was taken but is still here.
    ///
    /// # Errors
    /// `WouldBlock` if not all of it can go now: call again when the descriptor is writable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the other end is there. A link that is down never comes up again.
    fn is_up(&self) -> bool;
}

/// What a [`Link`] can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Whether [`HEADER`] bytes are in front of each packet.
    pub header: bool,
    /// Whether a packet may also be sent by one `writev` to the descriptor.
    pub direct: bool,
    /// What the card may leave to the link, and what the link may leave to the card.
    pub offloads: Offloads,
}

/// Work on packets that one end of a link leaves to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums need not be computed. The others need this one.
    pub checksum: bool,
    /// TCP over IPv4 need not be cut into segments.
    pub tso4: bool,
    /// TCP over IPv6 need not be cut into segments.
    pub tso6: bool,
    /// Nor if explicit congestion notification is in use.
    pub ecn: bool,
}

impl Offloads {
    /// Nothing is left to the other end.
    pub const NONE: Self = Self { checksum: false, tso4: false, tso6: false, ecn: false };
    /// Everything is.
    pub const ALL: Self = Self { checksum: true, tso4: true, tso6: true, ecn: true };
}
