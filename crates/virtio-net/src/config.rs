//! What the owner of a machine decides about a network card.

use std::io;

use net::Mac;
use rate::Rates;

/// The most pairs of queues that a card has.
pub const MAX_PAIRS: usize = 64;
/// The MTUs that a card can have: what IPv4 needs at least, and what fits a packet.
const MTU: std::ops::RangeInclusive<u16> = 68..=65_520;

/// How a [`Net`](crate::Net) presents its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// The card's address, until the guest sets another one. [`Mac::local`] makes one from random
    /// bytes.
    pub mac: Mac,
    /// What the guest is told that a packet can have, without its Ethernet header: 68 to 65520
    /// bytes. Nothing, if `None`: it then takes 1500.
    pub mtu: Option<u16>,
    /// How many packets and bytes the guest may receive in a time. What comes faster waits in the
    /// link, which drops what it has no room for.
    pub receive: Rates,
    /// How many packets and bytes the guest may send in a time. What comes faster waits in the
    /// guest.
    pub transmit: Rates,
}

impl NetConfig {
    /// A card with this address, no MTU of its own and no limits.
    pub fn new(mac: Mac) -> Self {
        Self { mac, mtu: None, receive: Rates::default(), transmit: Rates::default() }
    }

    pub(crate) fn check(&self) -> Result<(), NetError> {
        match self.mtu {
            Some(mtu) if !MTU.contains(&mtu) => Err(NetError::Mtu(mtu)),
            _ => Ok(()),
        }
    }
}

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// No link, or more than a card can have.
    #[error("a network card with {0} pairs of queues; it has 1 to {MAX_PAIRS}")]
    Pairs(usize),
    /// The links are of different kinds.
    #[error(
        "the links of a network card differ in what they can do; they must be queues of one tap"
    )]
    Links,
    /// An MTU that no packet has.
    #[error("an MTU of {0}; it must be 68 to 65520")]
    Mtu(u16),
    /// The host refuses something.
    #[error("the host does not give what a network card needs")]
    Host(#[from] io::Error),
}
