//! What guest RAM is made of.

use std::fs::File;

/// Where the bytes of guest RAM are.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Backing {
    /// Private memory of this process: the usual choice.
    #[default]
    Anonymous,
    /// A memfd of the VMM's own, which other processes (vhost-user back ends) can map too. It
    /// keeps its length, whatever they do.
    Memfd,
    /// `File`, shared with whoever else maps it; grown to the size of RAM if shorter.
    Shared(File),
    /// `File` as it is now; what the guest writes stays in this process. The file must be at least
    /// as long as RAM.
    CopyOnWrite(File),
    /// `File` as it is, for guests that must not change it: [`Ram::is_read_only`](crate::Ram::is_read_only)
    /// tells it to whoever gives the memory to a guest. Devices are to leave it alone too; what one
    /// writes all the same stays in this process. The file must be at least as long as RAM.
    ReadOnly(File),
}

/// The pages that the host backs guest RAM with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pages {
    /// Transparent huge pages where the host offers them, else ordinary ones.
    #[default]
    Default,
    /// Ordinary pages only (`MADV_NOHUGEPAGE`): the guest takes no more than it touches, and is
    /// slower.
    Small,
    /// Transparent huge pages (`MADV_HUGEPAGE`); a host without them is an error.
    Transparent,
    /// Reserved huge pages of 2 MiB (hugetlbfs). RAM must be a multiple of it.
    Huge2M,
    /// Reserved huge pages of 1 GiB (hugetlbfs). RAM must be a multiple of it.
    Huge1G,
}

impl Pages {
    /// The size of the reserved huge pages asked for, bytes.
    pub fn huge_size(self) -> Option<u64> {
        match self {
            Self::Default | Self::Small | Self::Transparent => None,
            Self::Huge2M => Some(2 << 20),
            Self::Huge1G => Some(1 << 30),
        }
    }
}

/// How guest RAM is made.
#[derive(Debug, Default)]
pub struct RamConfig {
    /// Where the bytes are.
    pub backing: Backing,
    /// The pages they are in.
    pub pages: Pages,
    /// Whether every page is given to the guest at once, so that it never waits for one, and a host
    /// without enough memory says so at the start.
    pub prefault: bool,
}

impl From<Backing> for RamConfig {
    fn from(backing: Backing) -> Self {
        Self { backing, ..Self::default() }
    }
}
