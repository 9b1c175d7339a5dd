//! The feature bits of a network card (virtio 1.3 §5.1.3), as masks.

use net::{Abilities, Offloads};

/// The driver may leave checksums to the device.
pub(crate) const CSUM: u64 = 1 << 0;
/// The device may leave checksums to the driver.
pub(crate) const GUEST_CSUM: u64 = 1 << 1;
/// The driver can change the offloads on its side while it runs.
pub(crate) const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
/// The configuration has an MTU.
pub(crate) const MTU: u64 = 1 << 3;
/// The configuration has the address.
pub(crate) const MAC: u64 = 1 << 5;
/// The driver can receive TCP over IPv4 that is not cut into segments.
pub(crate) const GUEST_TSO4: u64 = 1 << 7;
/// The same over IPv6.
pub(crate) const GUEST_TSO6: u64 = 1 << 8;
/// The same with explicit congestion notification.
pub(crate) const GUEST_ECN: u64 = 1 << 9;
/// The device can send TCP over IPv4 that is not cut into segments.
pub(crate) const HOST_TSO4: u64 = 1 << 11;
/// The same over IPv6.
pub(crate) const HOST_TSO6: u64 = 1 << 12;
/// The same with explicit congestion notification.
pub(crate) const HOST_ECN: u64 = 1 << 13;
/// A packet may come in several chains.
pub(crate) const MRG_RXBUF: u64 = 1 << 15;
/// The configuration has the link's status.
pub(crate) const STATUS: u64 = 1 << 16;
/// There is a queue for commands.
pub(crate) const CTRL_VQ: u64 = 1 << 17;
/// Commands say which packets are wanted.
pub(crate) const CTRL_RX: u64 = 1 << 18;
/// There are several pairs of queues.
pub(crate) const MQ: u64 = 1 << 22;
/// A command sets the address.
pub(crate) const CTRL_MAC_ADDR: u64 = 1 << 23;

/// What a command of [`CTRL_GUEST_OFFLOADS`] can turn on and off.
pub(crate) const GUEST_OFFLOADS: u64 = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN;

/// What a card over a link with these abilities offers.
pub(crate) fn offered(abilities: Abilities, pairs: usize, has_mtu: bool) -> u64 {
    let Offloads { checksum, tso4, tso6, ecn } = abilities.offloads;
    // Without a header nobody could tell what is left to do.
    let can = |able: bool, bits: u64| if abilities.header && checksum && able { bits } else { 0 };
    let always = MAC | MRG_RXBUF | STATUS | CTRL_VQ | CTRL_RX | CTRL_MAC_ADDR;
    always
        | can(true, CSUM | GUEST_CSUM | CTRL_GUEST_OFFLOADS)
        | can(tso4, HOST_TSO4 | GUEST_TSO4)
        | can(tso6, HOST_TSO6 | GUEST_TSO6)
        | can(ecn, HOST_ECN | GUEST_ECN)
        | if pairs > 1 { MQ } else { 0 }
        | if has_mtu { MTU } else { 0 }
}

/// What a driver with these bits can receive. None of it goes without checksums, whatever a driver
/// says.
pub(crate) fn offloads(bits: u64) -> Offloads {
    let has = |bit: u64| bits & GUEST_CSUM != 0 && bits & bit != 0;
    Offloads {
        checksum: has(GUEST_CSUM),
        tso4: has(GUEST_TSO4),
        tso6: has(GUEST_TSO6),
        ecn: has(GUEST_ECN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities { header: true, direct: true, offloads: Offloads::ALL };

    #[test]
    fn the_bits_are_those_of_the_standard() {
        let low = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5;
        let tso = 1 << 7 | 1 << 8 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13;
        let rest = 1 << 15 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 22 | 1 << 23;
        assert_eq!(offered(ALL, 2, true), low | tso | rest);
    }

    #[test]
    fn a_link_without_header_leaves_and_takes_no_work() {
        let work = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | CTRL_GUEST_OFFLOADS | GUEST_OFFLOADS;
        assert_eq!(offered(Abilities { header: false, ..ALL }, 1, false) & work, 0);
        let none = Abilities { offloads: Offloads::NONE, ..ALL };
        assert_eq!(offered(none, 1, false) & (work | MQ | MTU), 0);
    }

    #[test]
    fn nothing_is_left_to_a_driver_without_checksums() {
        assert_eq!(offloads(GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN), Offloads::NONE);
        assert_eq!(offloads(GUEST_OFFLOADS), Offloads::ALL);
        let expected = Offloads { checksum: true, tso6: true, ..Offloads::NONE };
        assert_eq!(offloads(GUEST_CSUM | GUEST_TSO6), expected);
    }
}
