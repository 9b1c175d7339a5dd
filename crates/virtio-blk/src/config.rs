//! What the owner of a machine decides about a disk.

use std::str::FromStr;

/// How a [`Blk`](crate::Blk) presents its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkConfig {
    /// When writes are made to last.
    pub cache: Cache,
    /// What the guest can find the disk by.
    pub identity: Identity,
}

/// When writes outlive a power cut of the host. That the VMM ends, however it does, loses nothing in
/// any mode, as long as the disk itself keeps nothing in the VMM's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// When the guest flushes, as on a disk with a cache of its own. A guest that cannot flush, or
    /// that turns the cache off, gets what [`WriteThrough`](Cache::WriteThrough) gives.
    #[default]
    WriteBack,
    /// Before each write is answered. The guest is told that there is nothing to flush.
    WriteThrough,
    /// When the host gets round to it: flushes do nothing. For disks that a power cut may destroy.
    Unsafe,
}

/// How requests get to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// By io_uring, if the disk has a file and the host an io_uring for us; otherwise one by one.
    #[default]
    Auto,
    /// One by one: a request is done before the next is looked at.
    Sync,
    /// By io_uring: as many at a time as there are, in any order.
    IoUring,
}

/// Why a disk cannot have the engine that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The disk is no plain file.
    #[error("io_uring is for raw images and block devices; other disks have the sync engine")]
    NoFile,
    /// The host refuses.
    #[error(
        "the host gives no io_uring (it may be switched off in kernel.io_uring_disabled, or by a \
         filter around this process); the sync engine needs none"
    )]
    IoUring(#[source] std::io::Error),
}

/// The identity string of a disk, which Linux shows as `/sys/block/vda/serial` and udev as
/// `/dev/disk/by-id/virtio-…`: up to 20 characters of printable ASCII without spaces. The default is
/// empty.
///
/// ```
/// use purlin_virtio_blk::Identity;
///
/// let identity: Identity = "root-disk".parse()?;
/// assert!("a name that is longer than 20".parse::<Identity>().is_err());
/// # Ok::<(), purlin_virtio_blk::IdentityError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity([u8; Identity::LEN]);

/// A text that cannot be a disk's identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot identify a disk: up to 20 characters of printable ASCII without spaces can")]
pub struct IdentityError(String);

impl Identity {
    /// The most characters that there can be (virtio 1.3 §5.2.6).
    pub const LEN: usize = 20;

    /// The characters, then zeroes.
    pub(crate) fn bytes(&self) -> [u8; Self::LEN] {
        self.0
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let mut bytes = [0; Self::LEN];
        match bytes.get_mut(..text.len()) {
            Some(start) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                start.copy_from_slice(text.as_bytes());
                Ok(Self(bytes))
            }
            _ => Err(IdentityError(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_short_and_printable() {
        let longest = "12345678901234567890";
        assert_eq!(longest.parse::<Identity>().unwrap().bytes(), longest.as_bytes());
        assert_eq!("".parse(), Ok(Identity::default()));
        for wrong in ["123456789012345678901", "a b", "a\0", "ü"] {
            assert_eq!(wrong.parse::<Identity>(), Err(IdentityError(wrong.into())));
        }
    }
}
