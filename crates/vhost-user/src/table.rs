//! Guest RAM as a back end is told of it.

use std::{
    fs::File,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
};

use memory::{GuestMemory, GuestMemoryBackend, GuestMemoryRegion};

use crate::{BackendError, message::words};

/// The most regions that every back end takes.
const MOST: usize = 8;

/// The regions of guest RAM that another process can map.
#[derive(Debug)]
pub(crate) struct Table {
    regions: Vec<Shared>,
}

#[derive(Debug)]
struct Shared {
    addr: u64,
    len: u64,
    offset: u64,
    file: Arc<File>,
}

impl Table {
    /// The regions of `memory` that are files mapped for all to see, the lowest if there are more than a
    /// back end takes. What a ring lies in is asked later: [`check`](Self::check).
    pub(crate) fn of(memory: &GuestMemory) -> Self {
        let shared = memory.iter().filter(|region| region.flags() & libc::MAP_SHARED != 0);
        let regions = shared.filter_map(|region| {
            let file = region.file_offset()?;
            Some(Shared {
                addr: region.start_addr().0,
                len: region.len(),
                offset: file.start(),
                file: Arc::clone(file.arc()),
            })
        });
        Self { regions: regions.take(MOST).collect() }
    }

    /// Whether a back end can reach `len` bytes at `addr`.
    pub(crate) fn check(&self, addr: u64, len: u64) -> Result<(), BackendError> {
        let inside = |region: &Shared| {
            let offset = addr.checked_sub(region.addr);
            offset.and_then(|offset| offset.checked_add(len)).is_some_and(|end| end <= region.len)
        };
        let found = self.regions.iter().any(inside);
        if found { Ok(()) } else { Err(BackendError::Unshared { addr, len }) }
    }

    /// What `SET_MEM_TABLE` says. Places in the front end's own memory, which the protocol speaks of,
    /// are guest physical addresses here: the back end only compares them.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = words(&[u32::try_from(self.regions.len()).unwrap_or(0), 0]);
        for region in &self.regions {
            for number in [region.addr, region.len, region.addr, region.offset] {
                body.extend_from_slice(&number.to_ne_bytes());
            }
        }
        body
    }

    pub(crate) fn fds(&self) -> Vec<RawFd> {
        self.regions.iter().map(|region| region.file.as_raw_fd()).collect()
    }
}

#[cfg(test)]
mod tests {
    use memory::{Backing, GuestAddress, Ram};

    use super::*;
    use crate::message::numbers;

    const LOW: (GuestAddress, usize) = (GuestAddress(0), 1 << 20);
    const HIGH: (GuestAddress, usize) = (GuestAddress(1 << 32), 2 << 20);

    #[test]
    fn every_region_is_told_with_its_place_in_the_file() {
        let table = Table::of(&Ram::new(&[LOW, HIGH], Backing::Memfd).unwrap().memory());
        let body = table.body();
        let (head, regions) = body.split_at(8);
        assert_eq!((numbers(head), regions.len(), table.fds().len()), ([2, 0], 64, 2));
        let numbers: [u32; 16] = numbers(regions);
        assert_eq!(numbers[8..], [0, 1, 2 << 20, 0, 0, 1, 1 << 20, 0]);
    }

    #[test]
    fn memory_of_this_process_alone_is_not_told() {
        let ram = Ram::new(&[LOW], Backing::Memfd).unwrap();
        let ram = ram.with(HIGH, Backing::Anonymous).unwrap();
        let table = Table::of(&ram.memory());
        assert_eq!(table.fds().len(), 1);
        assert!(table.check(0x1000, 64).is_ok());
        assert!(matches!(table.check(1 << 32, 64), Err(BackendError::Unshared { len: 64, .. })));
        assert!(table.check((1 << 20) - 32, 64).is_err());
        assert!(table.check(u64::MAX, 64).is_err());
    }

    #[test]
    fn no_more_regions_are_told_than_every_back_end_takes() {
        let ranges: Vec<_> = (0..12).map(|at| (GuestAddress(at << 21), 1 << 20)).collect();
        let table = Table::of(&Ram::new(&ranges, Backing::Memfd).unwrap().memory());
        assert_eq!(table.fds().len(), MOST);
    }
}
