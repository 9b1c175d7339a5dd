//! Configuration spaces and features, by type of device.

use crate::{BackendError, session::Session};

/// Bytes of a block device's configuration that every back end has (virtio 1.3 §5.2.4).
const BLOCK: usize = 60;
/// Where the block device says whether it caches writes: one byte, the only one that is writable.
const WCE: usize = 32;
/// Where it says how many queues it has: two bytes.
const BLOCK_QUEUES: usize = 34;
/// Bytes of a tag (virtio 1.3 §5.11.4).
const TAG: usize = 36;

/// A block device's features that speak of these bytes, or of no others (virtio 1.3 §5.2.3).
const BLOCK_FEATURES: u64 = 0x7e76;
/// A network card's features that need no control queue (virtio 1.3 §5.1.3): checksums, segmentation,
/// merged buffers.
const NET_FEATURES: u64 = 0xff83;
/// A network card has an address of its own.
const NET_MAC: u64 = 1 << 5;
/// The features that belong to no device type.
const COMMON: u64 = ((1 << 50) - 1) & !((1 << 24) - 1);

/// Whose the configuration space is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// The back end's, with the number of queues in it.
    Block,
    /// Ours: the address.
    Net([u8; 6]),
    /// Ours: tag and number of queues.
    Fs(String),
    /// The back end's, so many bytes.
    Other(u16),
}

impl Space {
    /// What of the back end's `features` the driver is offered.
    pub(crate) fn features(&self, features: u64) -> u64 {
        match self {
            Self::Block => features & (COMMON | BLOCK_FEATURES),
            Self::Net(_) => features & (COMMON | NET_FEATURES) | NET_MAC,
            Self::Fs(_) => features & COMMON,
            Self::Other(_) => features,
        }
    }

    /// The configuration space of a device with so many queues.
    pub(crate) fn read(&self, back: &mut Session, queues: u16) -> Result<Vec<u8>, BackendError> {
        match self {
            Self::Block => {
                let mut config = back.config(BLOCK)?;
                put(&mut config, BLOCK_QUEUES, &queues.to_le_bytes());
                Ok(config)
            }
            Self::Net(mac) => Ok(mac.to_vec()),
            Self::Fs(tag) => {
                let mut config = vec![0; TAG];
                put(&mut config, 0, tag.as_bytes());
                config.extend(u32::from(queues.saturating_sub(1)).to_le_bytes());
                Ok(config)
            }
            Self::Other(0) => Ok(Vec::new()),
            Self::Other(len) => back.config((*len).into()),
        }
    }

    /// How many queues a back end must have that says how many it has, for a device with `queues`. Those
    /// of network cards count pairs, though the protocol does not say so.
    pub(crate) fn counted(&self, queues: u16) -> u16 {
        match self {
            Self::Net(_) => queues / 2,
            Self::Block | Self::Fs(_) | Self::Other(_) => queues,
        }
    }

    /// How many queues of this type a back end has that does not say how many, if the type tells.
    pub(crate) fn fewest(&self) -> Option<u16> {
        match self {
            Self::Block => Some(1),
            Self::Net(_) | Self::Fs(_) => Some(2),
            Self::Other(_) => None,
        }
    }

    /// Whether the driver may write `len` bytes at `offset`.
    pub(crate) fn is_writable(&self, offset: usize, len: usize) -> bool {
        match self {
            Self::Block => (offset, len) == (WCE, 1),
            Self::Net(_) | Self::Fs(_) => false,
            Self::Other(_) => true,
        }
    }

    /// Whether a device with the configuration `old` may go on with `new`: a disk may have another
    /// size, and its cache is set again.
    pub(crate) fn fits(&self, old: &[u8], new: &[u8]) -> bool {
        let fixed = |config: &[u8]| {
            let mut fixed = config.to_vec();
            put(&mut fixed, 0, &[0; 8]);
            put(&mut fixed, WCE, &[0]);
            fixed
        };
        match self {
            Self::Block => fixed(old) == fixed(new),
            Self::Net(_) | Self::Fs(_) | Self::Other(_) => old == new,
        }
    }

    /// What of the configuration `old` was written by the driver, and where.
    pub(crate) fn written<'a>(&self, old: &'a [u8]) -> Option<(usize, &'a [u8])> {
        match self {
            Self::Block => old.get(WCE..=WCE).map(|wce| (WCE, wce)),
            Self::Net(_) | Self::Fs(_) | Self::Other(_) => None,
        }
    }
}

pub(crate) fn put(config: &mut [u8], offset: usize, bytes: &[u8]) {
    let end = offset.saturating_add(bytes.len());
    if let Some(place) = config.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_this_end_knows_nothing_of_are_not_offered() {
        // Secure erase and zones speak of configuration that is not read; flush does not.
        assert_eq!(Space::Block.features(1 << 16 | 1 << 17 | 1 << 9), 1 << 9);
        // The control queue, and all that it is for.
        let net = Space::Net([2, 0, 0, 0, 0, 1]);
        assert_eq!(net.features(!COMMON), NET_FEATURES | NET_MAC);
        assert_eq!(net.features(0), NET_MAC);
        assert_eq!(Space::Fs("a".into()).features(1 | 1 << 29), 1 << 29);
        assert_eq!(Space::Other(0).features(!0), !0);
    }

    #[test]
    fn queues_of_a_network_card_are_counted_in_pairs() {
        assert_eq!(Space::Net([0; 6]).counted(2), 1);
        assert_eq!(Space::Fs("a".into()).counted(2), 2);
    }

    #[test]
    fn a_disk_of_another_size_fits_and_one_of_other_sectors_does_not() {
        let old = [1; BLOCK];
        let mut new = old;
        (new[0], new[WCE]) = (9, 0);
        assert!(Space::Block.fits(&old, &new));
        new[20] = 2;
        assert!(!Space::Block.fits(&old, &new));
        assert!(!Space::Other(60).fits(&old, &[2; BLOCK]));
    }

    #[test]
    fn the_driver_writes_the_cache_of_a_disk_and_nothing_else() {
        assert!(Space::Block.is_writable(WCE, 1));
        assert!(!Space::Block.is_writable(WCE, 2) && !Space::Block.is_writable(0, 1));
        assert!(!Space::Fs("a".into()).is_writable(0, 1));
        assert!(Space::Other(8).is_writable(0, 1));
    }
}
