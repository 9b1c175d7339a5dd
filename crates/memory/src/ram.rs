//! Guest RAM, made and owned.

mod mapping;

use std::{fs::File, io, sync::Arc};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryMmap, GuestMemoryRegion, mmap::MmapRegionError,
};

use crate::{Backing, GuestMemory, Pages, RamConfig, Region, advice};

/// Guest RAM: its regions stay mapped as long as this, a [`GuestMemory`] or a VM holds them.
#[derive(Debug)]
pub struct Ram {
    memory: GuestMemory,
    regions: Vec<Arc<Region>>,
    /// Where those start that guests must not write to.
    read_only: Vec<GuestAddress>,
}

/// Why guest RAM could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RamError {
    /// Nothing was asked for.
    #[error("no RAM ranges; a machine has at least one")]
    NoRanges,
    /// A range is not a multiple of the huge pages that it should be made of.
    #[error(
        "RAM range of {len} bytes at {start:#x} is not a multiple of the huge page size {page}"
    )]
    NotHuge {
        /// Guest physical start.
        start: u64,
        /// Length, bytes.
        len: usize,
        /// The huge page size, bytes.
        page: u64,
    },
    /// The file is shorter than RAM.
    #[error("the file behind RAM has {file} bytes; {ram} bytes of RAM need at least as many")]
    ShortFile {
        /// Length of the file, bytes.
        file: u64,
        /// Size of RAM, bytes.
        ram: u64,
    },
    /// The memfd or file could not be made or sized.
    #[error("the file behind {bytes} bytes of RAM could not be prepared")]
    File {
        /// Size of RAM, bytes.
        bytes: u64,
        /// What the host said.
        source: io::Error,
    },
    /// The host does not map that much.
    #[error(
        "the host cannot map {len} bytes of RAM at {start:#x}; \
         ask for less, or for huge pages only where enough are reserved"
    )]
    Map {
        /// Guest physical start.
        start: u64,
        /// Length, bytes.
        len: usize,
        /// What the host said.
        source: MmapRegionError,
    },
    /// The host mapped the memory but does not give its pages.
    #[error("the host refuses {what} for {len} bytes of RAM at {start:#x}")]
    Pages {
        /// What was asked for.
        what: &'static str,
        /// Guest physical start.
        start: u64,
        /// Length, bytes.
        len: u64,
        /// What the host said.
        source: io::Error,
    },
    /// The ranges overlap, are out of order, or end beyond the address space.
    #[error("the RAM ranges do not make an address space")]
    Ranges(#[source] vm_memory::GuestRegionCollectionError),
    /// A range ends beyond 2^64.
    #[error("RAM range of {len} bytes at {start:#x} ends beyond the address space")]
    Overflow {
        /// Guest physical start.
        start: u64,
        /// Length, bytes.
        len: usize,
    },
}

impl Ram {
    /// Makes RAM of `ranges` (guest physical start and length in bytes, in order of address). It
    /// reads as zero, except over a file ([`Backing::Shared`], [`Backing::CopyOnWrite`],
    /// [`Backing::ReadOnly`]), where it reads as the file, range after range.
    ///
    /// # Errors
    /// The ranges are not ranges of one address space, or the host does not give the memory.
    pub fn new(
        ranges: &[(GuestAddress, usize)],
        config: impl Into<RamConfig>,
    ) -> Result<Self, RamError> {
        let config = config.into();
        let mut ram = Self::of(make(ranges, &config)?, Vec::new())?;
        ram.protect(ranges, &config);
        if matches!(config.pages, Pages::Default | Pages::Transparent) && !config.prefault {
            ram.start_small();
        }
        ram.regions.iter().try_for_each(|region| advise(region, &config))?;
        Ok(ram)
    }

    /// RAM with one more range, which is made in a way of its own: the file of a persistent memory
    /// device, room for memory that is plugged in later. To devices, loaders and VMs it is RAM like
    /// the rest; what a guest is told of it is not this crate's business.
    ///
    /// Handles on the memory taken before do not see it.
    ///
    /// # Errors
    /// The range overlaps another, or the host does not give the memory.
    pub fn with(
        self,
        range: (GuestAddress, usize),
        config: impl Into<RamConfig>,
    ) -> Result<Self, RamError> {
        let config = config.into();
        let more = make(&[range], &config)?;
        let mut regions = self.regions;
        regions.extend(more.iter().map(Arc::clone));
        regions.sort_by_key(|region| region.start_addr());
        let mut ram = Self::of(regions, self.read_only)?;
        ram.protect(&[range], &config);
        more.iter().try_for_each(|region| advise(region, &config))?;
        Ok(ram)
    }

    fn of(regions: Vec<Arc<Region>>, read_only: Vec<GuestAddress>) -> Result<Self, RamError> {
        let memory =
            GuestMemoryMmap::from_arc_regions(regions.clone()).map_err(RamError::Ranges)?;
        Ok(Self { memory: Arc::new(memory), regions, read_only })
    }

    fn protect(&mut self, ranges: &[(GuestAddress, usize)], config: &RamConfig) {
        if matches!(config.backing, Backing::ReadOnly(_)) {
            self.read_only.extend(ranges.iter().map(|(start, _)| *start));
        }
    }

    /// What devices and loaders hold: a handle on all of RAM.
    pub fn memory(&self) -> GuestMemory {
        Arc::clone(&self.memory)
    }

    /// What a VM holds: the regions, in order of address.
    pub fn regions(&self) -> impl Iterator<Item = Arc<Region>> + '_ {
        self.regions.iter().map(Arc::clone)
    }

    /// Whether a guest may only read `region`, which is one of these.
    pub fn is_read_only(&self, region: &Region) -> bool {
        self.read_only.contains(&region.start_addr())
    }

    /// Size of RAM, bytes, with all ranges.
    pub fn bytes(&self) -> u64 {
        self.regions().map(|region| region.len()).sum()
    }

    /// The boot tables of a PC are in the first pages, and little else is below 2 MiB: a page that is
    /// there before huge ones are asked for keeps the host from clearing all of it at the first touch.
    fn start_small(&self) {
        // RAM that does not start at 0 is no PC's.
        let _ = self.memory.read_obj::<u8>(GuestAddress(0));
    }
}

/// The regions of `ranges`, not yet advised of.
fn make(
    ranges: &[(GuestAddress, usize)],
    config: &RamConfig,
) -> Result<Vec<Arc<Region>>, RamError> {
    check(ranges, config.pages)?;
    let file = open(&config.backing, config.pages, total(ranges))?;
    let mut offset = 0;
    let mut map = |&(start, len): &(GuestAddress, usize)| {
        let file = file.as_ref().map(|file| FileOffset::from_arc(Arc::clone(file), offset));
        offset += len as u64;
        mapping::map(start, len, file, config).map(Arc::new)
    };
    ranges.iter().map(&mut map).collect()
}

/// Tells the host which pages a region is to have.
fn advise(region: &Region, config: &RamConfig) -> Result<(), RamError> {
    let refused = |what| {
        let (start, len) = (region.start_addr().0, region.len());
        move |source| RamError::Pages { what, start, len, source }
    };
    match config.pages {
        Pages::Transparent => {
            advice::huge_pages(region).map_err(refused("transparent huge pages"))?;
        }
        // A host that refuses has ordinary pages only, which do as well and are what `Small` asks
        // for.
        Pages::Default => drop(advice::huge_pages(region)),
        Pages::Small => drop(advice::small_pages(region)),
        Pages::Huge2M | Pages::Huge1G => {}
    }
    if config.prefault {
        advice::populate(region).map_err(refused("all pages at once"))?;
    }
    Ok(())
}

fn check(ranges: &[(GuestAddress, usize)], pages: Pages) -> Result<(), RamError> {
    if ranges.is_empty() {
        return Err(RamError::NoRanges);
    }
    let Some(page) = pages.huge_size() else { return Ok(()) };
    match ranges.iter().find(|(_, len)| !(*len as u64).is_multiple_of(page)) {
        Some(&(start, len)) => Err(RamError::NotHuge { start: start.0, len, page }),
        None => Ok(()),
    }
}

fn total(ranges: &[(GuestAddress, usize)]) -> u64 {
    ranges.iter().fold(0, |sum: u64, (_, len)| sum.saturating_add(*len as u64))
}

/// The file behind RAM, long enough for it.
fn open(backing: &Backing, pages: Pages, bytes: u64) -> Result<Option<Arc<File>>, RamError> {
    let failed = |source: io::Error| RamError::File { bytes, source };
    let file = match backing {
        Backing::Anonymous => return Ok(None),
        Backing::Memfd => {
            let file = memfd(pages).map_err(failed)?;
            sized(&file, bytes).map_err(failed)?;
            file
        }
        Backing::Shared(file) => {
            if file.metadata().map_err(failed)?.len() < bytes {
                file.set_len(bytes).map_err(failed)?;
            }
            file.try_clone().map_err(failed)?
        }
        Backing::CopyOnWrite(file) | Backing::ReadOnly(file) => {
            let len = file.metadata().map_err(failed)?.len();
            if len < bytes {
                return Err(RamError::ShortFile { file: len, ram: bytes });
            }
            file.try_clone().map_err(failed)?
        }
    };
    Ok(Some(Arc::new(file)))
}

fn memfd(pages: Pages) -> io::Result<File> {
    let huge = match pages {
        Pages::Default | Pages::Small | Pages::Transparent => MFdFlags::empty(),
        Pages::Huge2M => MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB,
        Pages::Huge1G => MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_1GB,
    };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(memfd_create(c"guest-ram", flags | huge)?.into())
}

/// Gives a memfd its size for good. Whoever is given the memory could cut it off otherwise, and what
/// is gone is `SIGBUS` for all others. Holes can still be made in it.
fn sized(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

#[cfg(test)]
mod tests;
