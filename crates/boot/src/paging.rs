//! Identity page tables for a 64-bit start.

use memory::GuestMemory;

use crate::{BootError, place, ram};

/// Present and writable.
const TABLE: u64 = 0x3;
/// Present, writable, 2 MiB. Pages of 1 GiB would save four tables, but not every processor has
/// them.
const LARGE: u64 = 0x83;
const PAGE: u64 = 0x1000;
const GIGABYTES: u64 = 4;

/// Maps the first 4 GiB to themselves and says what CR3 must be.
pub(crate) fn identity(memory: &GuestMemory) -> Result<u64, BootError> {
    let (root, pointers) = (place::PAGE_TABLES, place::PAGE_TABLES + PAGE);
    let directory = |gigabyte: u64| place::PAGE_TABLES + (2 + gigabyte) * PAGE;
    let put = |at, entries: &[u64]| {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        ram::put(memory, "a page table", at, &bytes)
    };
    put(root, &[pointers | TABLE])?;
    let directories: Vec<u64> =
        (0..GIGABYTES).map(|gigabyte| directory(gigabyte) | TABLE).collect();
    put(pointers, &directories)?;
    for gigabyte in 0..GIGABYTES {
        let pages: Vec<u64> = (0..512).map(|page| gigabyte << 30 | page << 21 | LARGE).collect();
        put(directory(gigabyte), &pages)?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ram_of;
    use memory::{Bytes, GuestAddress};

    /// What a processor does with four levels of tables.
    fn walk(memory: &GuestMemory, root: u64, address: u64) -> u64 {
        let entry = |table: u64, shift: u32| -> u64 {
            let index = address >> shift & 0x1ff;
            memory.read_obj(GuestAddress((table & !0xfff) + index * 8)).unwrap()
        };
        let page = entry(entry(entry(root, 39), 30), 21);
        (page & !0x1f_ffff) | (address & 0x1f_ffff)
    }

    #[test]
    fn the_first_4_gib_are_mapped_to_themselves() {
        let (_, ram) = ram_of(4 << 20);
        let root = identity(&ram).unwrap();
        let addresses = [0, 0x10_0200, 0x3fff_ffff, 0x4000_0000, 0xfee0_0000, 0xffff_ffff];
        assert_eq!(addresses.map(|address| walk(&ram, root, address)), addresses);
    }
}
