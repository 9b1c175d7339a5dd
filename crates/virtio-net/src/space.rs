//! The configuration space (virtio 1.3 §5.1.4): address, status, pairs of queues, MTU.

use net::Mac;

/// Size of the space, bytes.
const SIZE: usize = 12;
/// Bit 0 of the status: the link is up.
const LINK_UP: u8 = 1;

/// The configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space([u8; SIZE]);

impl Space {
    pub(crate) fn new(mac: Mac, pairs: u16, mtu: Option<u16>) -> Self {
        let [a, b, c, d, e, f] = mac.bytes();
        let [pairs_low, pairs_high] = pairs.to_le_bytes();
        let [mtu_low, mtu_high] = mtu.unwrap_or(0).to_le_bytes();
        Self([a, b, c, d, e, f, 0, 0, pairs_low, pairs_high, mtu_low, mtu_high])
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The address, as the guest set it.
    pub(crate) fn mac(&self) -> [u8; 6] {
        let [mac @ .., _, _, _, _, _, _] = self.0;
        mac
    }

    pub(crate) fn set_mac(&mut self, mac: Mac) {
        for (to, from) in self.0.iter_mut().zip(mac.bytes()) {
            *to = from;
        }
    }

    pub(crate) fn set_link(&mut self, up: bool) {
        let [_, _, _, _, _, _, status, ..] = &mut self.0;
        *status = if up { LINK_UP } else { 0 };
    }

    pub(crate) fn pairs(&self) -> u16 {
        let [_, _, _, _, _, _, _, _, low, high, ..] = self.0;
        u16::from_le_bytes([low, high])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_the_standard_has_them() {
        let mut space = Space::new(Mac::local([0; 6]), 0x0102, Some(0x0304));
        assert_eq!(space.bytes(), [2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 4, 3]);
        space.set_link(true);
        let mac = Mac::new([6, 5, 4, 3, 2, 1]).unwrap();
        space.set_mac(mac);
        assert_eq!(space.bytes(), [6, 5, 4, 3, 2, 1, 1, 0, 2, 1, 4, 3]);
        assert_eq!((space.mac(), space.pairs()), (mac.bytes(), 0x0102));
        space.set_link(false);
        assert_eq!(space.bytes()[6..8], [0, 0]);
    }
}
