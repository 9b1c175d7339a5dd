use std::io::{Read, Seek, SeekFrom, Write};

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use vm_memory::{Bytes, GuestMemoryBackend};

use super::*;

const TWO: &[(GuestAddress, usize)] =
    &[(GuestAddress(0), 0x4000), (GuestAddress(0x1_0000_0000), 0x2000)];

fn file_of(bytes: &[u8]) -> File {
    let mut file = memfd(Pages::Default).unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn anonymous_ram_reads_as_zero_and_keeps_what_is_written() {
    let ram = Ram::new(TWO, Backing::Anonymous).unwrap();
    let memory = ram.memory();
    memory.write_obj(0x1122_3344_u32, GuestAddress(0x1_0000_1ffc)).unwrap();
    assert_eq!(memory.read_obj::<u32>(GuestAddress(0x1_0000_1ffc)).unwrap(), 0x1122_3344);
    assert_eq!(memory.read_obj::<u32>(GuestAddress(0)).unwrap(), 0);
    assert_eq!(ram.bytes(), 0x6000);
}

#[test]
fn an_access_outside_ram_is_refused() {
    let ram = Ram::new(TWO, Backing::Anonymous).unwrap();
    assert!(ram.memory().write_obj(0_u64, GuestAddress(0x3ffc)).is_err());
    assert!(!ram.memory().address_in_range(GuestAddress(0x1_0000_2000)));
}

#[test]
fn shared_ram_is_the_file_range_after_range() {
    let mut file = file_of(b"head");
    let ram = Ram::new(TWO, Backing::Shared(file.try_clone().unwrap())).unwrap();
    ram.memory().write_slice(b"tail", GuestAddress(0x1_0000_0000)).unwrap();
    let mut seen = [0; 4];
    file.seek(SeekFrom::Start(0x4000)).unwrap();
    file.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"tail");
    ram.memory().read_slice(&mut seen, GuestAddress(0)).unwrap();
    assert_eq!(&seen, b"head");
}

#[test]
fn copy_on_write_ram_leaves_the_file_alone() {
    let mut file = file_of(&[7; 0x6000]);
    let ram = Ram::new(TWO, Backing::CopyOnWrite(file.try_clone().unwrap())).unwrap();
    assert_eq!(ram.memory().read_obj::<u8>(GuestAddress(0)).unwrap(), 7);
    ram.memory().write_obj(9_u8, GuestAddress(0)).unwrap();
    let mut seen = [0];
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_exact(&mut seen).unwrap();
    assert_eq!(seen, [7]);
}

#[test]
fn memory_that_guests_only_read_is_told_apart() {
    let backing = || Backing::ReadOnly(file_of(&[7; 0x2000]));
    let range = (GuestAddress(0x8000), 0x2000);
    let ram = Ram::new(TWO, Backing::Anonymous).unwrap().with(range, backing()).unwrap();
    let ram = ram.with((GuestAddress(0x2_0000_0000), 0x1000), Backing::Anonymous).unwrap();
    let told: Vec<bool> = ram.regions().map(|region| ram.is_read_only(&region)).collect();
    assert_eq!(told, [false, true, false, false]);
    assert_eq!(ram.memory().read_obj::<u8>(range.0).unwrap(), 7);
    let ram = Ram::new(&[range], backing()).unwrap();
    assert!(ram.is_read_only(&ram.regions().next().unwrap()));
}

#[test]
fn a_file_shorter_than_copy_on_write_ram_is_refused_with_both_sizes() {
    let error = Ram::new(TWO, Backing::CopyOnWrite(file_of(b"short"))).unwrap_err();
    assert!(matches!(error, RamError::ShortFile { file: 5, ram: 0x6000 }));
}

#[test]
fn a_memfd_can_be_mapped_by_others() {
    let ram = Ram::new(TWO, Backing::Memfd).unwrap();
    let offset = ram.regions().nth(1).unwrap().file_offset().unwrap().start();
    assert_eq!(offset, 0x4000);
}

#[test]
fn nobody_who_is_given_the_memfd_can_cut_it_off_but_pages_can_be_given_back() {
    let ram = Ram::new(TWO, Backing::Memfd).unwrap();
    let region = ram.regions().next().unwrap();
    let mut theirs = region.file_offset().unwrap().file().try_clone().unwrap();
    theirs.write_all(&[7; 0x6000]).unwrap();

    let cut = theirs.set_len(0x1000);
    let grown = theirs.set_len(0x10_0000);
    let unsealed = fcntl(&theirs, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));

    for refused in [cut, grown, unsealed.map(drop).map_err(io::Error::from)] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
    let memory = ram.memory();
    crate::discard(&memory, GuestAddress(0x1000), 0x1000).unwrap();
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1000)).unwrap(), 0);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x2000)).unwrap(), 7);
}

#[test]
fn a_memfd_of_huge_pages_is_sealed_too() {
    let file = match memfd(Pages::Huge2M) {
        Ok(file) => file,
        // A host without huge pages of that size.
        Err(error) => {
            let there = std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists();
            return assert!(!there, "{error}");
        }
    };
    sized(&file, 4 << 20).unwrap();
    assert!(file.set_len(2 << 20).is_err());
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, hole, 0, 2 << 20).unwrap();
}

#[test]
fn huge_pages_need_ranges_of_whole_huge_pages() {
    let config = RamConfig { pages: Pages::Huge2M, ..RamConfig::default() };
    let error = Ram::new(TWO, config).unwrap_err();
    assert!(matches!(error, RamError::NotHuge { page: 0x20_0000, len: 0x4000, start: 0 }));
}

#[test]
fn prefaulted_ram_is_resident_from_the_start() {
    let config = RamConfig { prefault: true, ..RamConfig::default() };
    let ram = Ram::new(&[(GuestAddress(0), 4 << 20)], config).unwrap();
    let start = ram.regions().next().unwrap().as_ptr().addr();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let resident: u64 = mapping_at(&smaps, start).unwrap();
    assert!(resident >= 4 << 10, "only {resident} KiB are resident");
}

/// The `Rss` in KiB of the mapping that holds `address`.
fn mapping_at(smaps: &str, address: usize) -> Option<u64> {
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let bounds = range.and_then(|(first, end)| {
            Some((usize::from_str_radix(first, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
        });
        if let Some((first, end)) = bounds {
            inside = (first..end).contains(&address);
        } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| inside) {
            return rss.trim().trim_end_matches(" kB").parse().ok();
        }
    }
    None
}

#[test]
fn the_default_and_small_pages_work_on_every_host() {
    for pages in [Pages::Default, Pages::Small] {
        for backing in [Backing::Anonymous, Backing::Memfd] {
            let config = RamConfig { backing, pages, prefault: false };
            let ram = Ram::new(&[(GuestAddress(0), 4 << 20)], config).unwrap();
            ram.memory().write_obj(1_u8, GuestAddress((4 << 20) - 1)).unwrap();
        }
    }
}

#[test]
fn transparent_huge_pages_are_asked_of_the_kernel() {
    let config = RamConfig { pages: Pages::Transparent, ..RamConfig::default() };
    let ram = Ram::new(&[(GuestAddress(0), 4 << 20)], config);
    assert!(ram.is_ok() || !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists());
}

#[test]
fn ranges_that_overlap_are_refused() {
    let overlapping = [(GuestAddress(0), 0x4000), (GuestAddress(0x2000), 0x4000)];
    assert!(matches!(Ram::new(&overlapping, Backing::Anonymous), Err(RamError::Ranges(_))));
}

#[test]
fn no_ranges_are_refused() {
    assert!(matches!(Ram::new(&[], Backing::Anonymous), Err(RamError::NoRanges)));
}

#[test]
fn another_range_is_part_of_ram_and_keeps_its_own_backing() {
    let mut file = file_of(&[7; 0x3000]);
    let boot = Ram::new(TWO, Backing::Anonymous).unwrap();
    boot.memory().write_obj(5_u8, GuestAddress(0x1000)).unwrap();
    let ram = boot
        .with((GuestAddress(0x2_0000_0000), 0x3000), Backing::Shared(file.try_clone().unwrap()))
        .unwrap()
        .with((GuestAddress(0x8000), 0x1000), Backing::Memfd)
        .unwrap();
    let starts: Vec<u64> = ram.regions().map(|region| region.start_addr().0).collect();
    assert_eq!(starts, [0, 0x8000, 0x1_0000_0000, 0x2_0000_0000]);
    assert_eq!(ram.bytes(), 0xa000);

    let memory = ram.memory();
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1000)).unwrap(), 5);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x2_0000_2fff)).unwrap(), 7);
    memory.write_obj(9_u8, GuestAddress(0x2_0000_0000)).unwrap();
    let mut seen = [0];
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_exact(&mut seen).unwrap();
    assert_eq!(seen, [9]);
}

#[test]
fn another_range_over_ram_is_refused() {
    let ram = Ram::new(TWO, Backing::Anonymous).unwrap();
    let error = ram.with((GuestAddress(0x3000), 0x2000), Backing::Anonymous).unwrap_err();
    assert!(matches!(error, RamError::Ranges(_)));
}
