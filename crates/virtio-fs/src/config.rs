//! What the owner of a machine decides about a shared directory.

use std::{fmt, str::FromStr, time::Duration};

/// How an [`Fs`](crate::Fs) shares its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsConfig {
    /// The name by which the guest mounts it.
    pub tag: Tag,
    /// What the guest may remember.
    pub cache: Cache,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// The most file descriptors that the device keeps open, at least 16: three quarters of them
    /// for files that the guest has open, the rest for places that it knows.
    pub descriptors: usize,
}

impl FsConfig {
    /// A writable directory, cached by [`Cache::Auto`], with up to 512 descriptors.
    pub fn new(tag: Tag) -> Self {
        Self { tag, cache: Cache::default(), read_only: false, descriptors: 512 }
    }
}

/// How long the guest may trust what it has read, while the host changes the directory too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Names and attributes for a second; the content of a file as long as its attributes are the
    /// same.
    #[default]
    Auto,
    /// Everything for a day: for directories that nobody else writes to.
    Always,
    /// Nothing: every access comes to the host. Shared mappings of files do not work then.
    None,
}

impl Cache {
    /// How long names and attributes hold.
    pub(crate) fn timeout(self) -> Duration {
        match self {
            Self::Auto => Duration::from_secs(1),
            Self::Always => Duration::from_secs(86_400),
            Self::None => Duration::ZERO,
        }
    }
}

/// The name of a file system, which a guest mounts by `mount -t virtiofs TAG /mnt`: 1 to 36 bytes
/// without NUL (virtio 1.3 §5.11.4).
///
/// ```
/// use purlin_virtio_fs::Tag;
///
/// let tag: Tag = "share".parse()?;
/// assert_eq!(tag.to_string(), "share");
/// assert!("".parse::<Tag>().is_err());
/// # Ok::<(), purlin_virtio_fs::TagError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

/// A text that cannot be a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be a tag: 1 to 36 bytes without NUL can")]
pub struct TagError(String);

impl Tag {
    /// The most bytes that there can be.
    pub const LEN: usize = 36;

    /// The bytes, then zeroes.
    pub(crate) fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (to, from) in bytes.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        bytes
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let fits = (1..=Self::LEN).contains(&text.len()) && !text.contains('\0');
        if fits { Ok(Self(text.into())) } else { Err(TagError(text.into())) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_1_to_36_bytes() {
        let longest = "t".repeat(36);
        assert_eq!(longest.parse::<Tag>().unwrap().bytes(), *longest.as_bytes());
        for wrong in ["", "t\0", &"t".repeat(37), &"ü".repeat(19)] {
            assert_eq!(wrong.parse::<Tag>(), Err(TagError(wrong.into())));
        }
    }

    #[test]
    fn a_short_tag_is_filled_with_zeroes() {
        let bytes = "ab".parse::<Tag>().unwrap().bytes();
        assert_eq!((&bytes[..2], &bytes[2..]), (&b"ab"[..], &[0; 34][..]));
    }
}
