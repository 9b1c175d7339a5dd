//! What a device is to be like.

use crate::space::Space;

/// The most entries that the back ends in use take.
const MOST: u16 = 1024;

/// What a device is to be like, beside its type: queues and configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub(crate) queues: u16,
    pub(crate) size: u16,
    pub(crate) space: Space,
}

/// Why a device cannot be like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The tag of a file system has not the right length.
    #[error("the tag {0:?} has {len} bytes; a tag has 1 to 36", len = .0.len())]
    Tag(String),
    /// No such number of queues.
    #[error("{0} queues; a vhost-user device has 1 to 64")]
    Queues(u16),
    /// No such size.
    #[error("a queue of {0} entries cannot be; sizes are powers of two from 2 to {MOST}")]
    Size(u16),
}

impl Settings {
    /// A block device (type 2) with one queue. Its configuration space is the back end's.
    pub fn block() -> Self {
        Self { queues: 1, size: 128, space: Space::Block }
    }

    /// A network card (type 1) with one pair of queues and the address `mac`. There is no control
    /// queue: of the back end's features those are offered that need none.
    pub fn net(mac: [u8; 6]) -> Self {
        Self { queues: 2, size: 256, space: Space::Net(mac) }
    }

    /// A file system (type 26) with the tag `tag`, the queue for urgent requests and one more.
    ///
    /// # Errors
    /// The tag is empty or longer than 36 bytes.
    pub fn fs(tag: &str) -> Result<Self, SettingsError> {
        if tag.is_empty() || tag.len() > 36 {
            return Err(SettingsError::Tag(tag.to_owned()));
        }
        Ok(Self { queues: 2, size: 1024, space: Space::Fs(tag.to_owned()) })
    }

    /// A device of any other type, with so many queues, and `config` bytes of the back end's
    /// configuration space.
    ///
    /// # Errors
    /// No device has as many queues.
    pub fn other(queues: u16, config: u16) -> Result<Self, SettingsError> {
        let space = Space::Other(config);
        Self { queues: 1, size: 256, space }.queues(queues)
    }

    /// So many queues: of a file system beside the one for urgent requests, of a network card pairs.
    ///
    /// # Errors
    /// No device has as many; a network card has one pair.
    pub fn queues(self, queues: u16) -> Result<Self, SettingsError> {
        let total = match &self.space {
            Space::Net(_) if queues == 1 => 2,
            Space::Net(_) => 0,
            Space::Fs(_) => queues.saturating_add(1),
            Space::Block | Space::Other(_) => queues,
        };
        if total == 0 || total > 64 || queues == 0 {
            return Err(SettingsError::Queues(queues));
        }
        Ok(Self { queues: total, ..self })
    }

    /// Queues of at most so many entries.
    ///
    /// # Errors
    /// It is no power of two from 2 to 1024.
    pub fn queue_size(self, size: u16) -> Result<Self, SettingsError> {
        if !size.is_power_of_two() || !(2..=MOST).contains(&size) {
            return Err(SettingsError::Size(size));
        }
        Ok(Self { size, ..self })
    }
}
