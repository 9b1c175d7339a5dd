//! Which pages have been written.

use vm_memory::GuestMemoryRegion;

use crate::{Ram, Region};

/// Pages are tracked in units of 4 KiB.
const PAGE: u64 = 4 << 10;

/// The pages that were written since the last look, by the VMM or by the guest: one view of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirty {
    regions: Vec<Vec<u64>>,
}

impl Dirty {
    /// The dirty pages as one bitmap per region, in the order of [`Ram::regions`]; bit 0 of the
    /// first word is the region's first page.
    pub fn bitmaps(&self) -> &[Vec<u64>] {
        &self.regions
    }

    /// How many pages are dirty.
    pub fn pages(&self) -> u64 {
        self.regions.iter().flatten().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether page `page` of region `region` is dirty.
    pub fn contains(&self, region: usize, page: usize) -> bool {
        let word = self.regions.get(region).and_then(|words| words.get(page / 64));
        word.is_some_and(|word| word >> (page % 64) & 1 == 1)
    }
}

impl Ram {
    /// Takes the dirty pages and starts a new round: what the VMM wrote, by the marks that every
    /// access through [`GuestMemory`](crate::GuestMemory) leaves, united with what the guest wrote,
    /// which `guest_log` takes from the hypervisor for each region, one bit per 4 KiB page.
    ///
    /// A page that is written while this runs is in this round or in the next, never in neither.
    ///
    /// # Errors
    /// Those of `guest_log`; the VMM's marks of regions before the failing one are then spent.
    pub fn take_dirty<E>(
        &self,
        mut guest_log: impl FnMut(usize, &Region) -> Result<Vec<u64>, E>,
    ) -> Result<Dirty, E> {
        let mut regions = Vec::new();
        for (index, region) in self.regions().enumerate() {
            let guest = guest_log(index, &region)?;
            regions.push(unite(take_marks(&region), &guest));
        }
        Ok(Dirty { regions })
    }
}

/// The VMM's own marks of `region`, cleared as they are read.
fn take_marks(region: &Region) -> Vec<u64> {
    let pages = usize::try_from(region.len().div_ceil(PAGE)).unwrap_or(usize::MAX);
    let mut words = region.get_mmap().bitmap().take();
    words.resize(pages.div_ceil(64), 0);
    words
}

fn unite(mut marks: Vec<u64>, guest: &[u64]) -> Vec<u64> {
    for (word, guest) in marks.iter_mut().zip(guest) {
        *word |= guest;
    }
    marks
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::Backing;

    fn two_regions() -> Ram {
        let ranges = [(GuestAddress(0), 0x4_1000), (GuestAddress(0x10_0000), 0x2000)];
        Ram::new(&ranges, Backing::Anonymous).unwrap()
    }

    fn no_log(_: usize, _: &Region) -> Result<Vec<u64>, Infallible> {
        Ok(Vec::new())
    }

    #[test]
    fn fresh_ram_is_clean() {
        assert_eq!(two_regions().take_dirty(no_log).unwrap().pages(), 0);
    }

    #[test]
    fn writes_of_the_vmm_and_of_the_guest_are_one_view() {
        let ram = two_regions();
        ram.memory().write_obj(1_u8, GuestAddress(0x4_0000)).unwrap();
        let guest_log = |index: usize, _: &Region| {
            Ok::<_, Infallible>(if index == 1 { vec![0b10] } else { vec![0b1, 0] })
        };
        let dirty = ram.take_dirty(guest_log).unwrap();
        assert!(dirty.contains(0, 0x40) && dirty.contains(0, 0) && dirty.contains(1, 1));
        assert_eq!(dirty.pages(), 3);
    }

    #[test]
    fn taking_starts_a_new_round() {
        let ram = two_regions();
        ram.memory().write_obj(1_u8, GuestAddress(0x10_0000)).unwrap();
        assert!(ram.take_dirty(no_log).unwrap().contains(1, 0));
        assert_eq!(ram.take_dirty(no_log).unwrap().pages(), 0);
    }

    #[test]
    fn a_write_across_a_page_border_marks_both_pages() {
        let ram = two_regions();
        ram.memory().write_obj(1_u64, GuestAddress(0xffc)).unwrap();
        assert_eq!(ram.take_dirty(no_log).unwrap().bitmaps()[0][0], 0b11);
    }
}
