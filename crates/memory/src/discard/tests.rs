use std::{
    fs::File,
    io::Write,
    os::unix::fs::{FileExt, MetadataExt},
};

use vm_memory::Bytes;

use super::*;
use crate::{Backing, Pages, Ram, RamConfig};

const RAM: usize = 64 * 0x1000;

fn ram_on(backing: Backing) -> Ram {
    let config = RamConfig { backing, pages: Pages::Small, ..RamConfig::default() };
    let ranges = [(GuestAddress(0), RAM), (GuestAddress(RAM as u64), RAM)];
    let ram = Ram::new(&ranges, config).unwrap();
    ram.memory().write_slice(&vec![0x5a; 2 * RAM], GuestAddress(0)).unwrap();
    ram.take_dirty(|_, _| Ok::<_, io::Error>(Vec::new())).unwrap();
    ram
}

/// How many pages of RAM this process has, by `/proc/self/pagemap`.
fn resident(ram: &Ram) -> usize {
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let present = |address: usize| {
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, (address / 0x1000 * 8) as u64).unwrap();
        u64::from_le_bytes(entry) >> 63 == 1
    };
    let pages = ram.regions().flat_map(|region| {
        let start = region.as_ptr().addr();
        (start..start + RAM).step_by(0x1000)
    });
    pages.filter(|page| present(*page)).count()
}

fn byte(ram: &Ram, at: u64) -> u8 {
    ram.memory().read_obj(GuestAddress(at)).unwrap()
}

#[test]
fn pages_go_back_to_the_host_and_read_as_zero() {
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let what = format!("{backing:?}");
        let ram = ram_on(backing);
        assert_eq!(resident(&ram), 128, "{what}");
        let given = discard(&ram.memory(), GuestAddress(0x4000), 0x8000).unwrap();
        assert_eq!((given, resident(&ram)), (0x8000, 120), "{what}");
        assert_eq!([byte(&ram, 0x3fff), byte(&ram, 0x4000)], [0x5a, 0], "{what}");
        assert_eq!([byte(&ram, 0xbfff), byte(&ram, 0xc000)], [0, 0x5a], "{what}");
        ram.memory().write_obj(7_u8, GuestAddress(0x4000)).unwrap();
        assert_eq!(byte(&ram, 0x4000), 7, "{what}");
    }
}

#[test]
fn the_memory_behind_a_shared_file_is_freed() {
    let ram = ram_on(Backing::Memfd);
    let region = ram.regions().next().unwrap();
    let file = region.file_offset().unwrap().file();
    let before = file.metadata().unwrap().blocks();
    discard(&ram.memory(), GuestAddress(0), 2 * RAM as u64).unwrap();
    let after = file.metadata().unwrap().blocks();
    assert_eq!((before * 512, after), (2 * RAM as u64, 0));
}

#[test]
fn a_range_may_cross_from_one_region_into_the_next() {
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let ram = ram_on(backing);
        let border = RAM as u64;
        let given = discard(&ram.memory(), GuestAddress(border - 0x1000), 0x3000).unwrap();
        assert_eq!((given, resident(&ram)), (0x3000, 125));
        assert_eq!([byte(&ram, border - 1), byte(&ram, border)], [0, 0]);
        assert_eq!([byte(&ram, border - 0x1001), byte(&ram, border + 0x2000)], [0x5a, 0x5a]);
    }
}

#[test]
fn parts_of_pages_stay_as_they_are() {
    let ram = ram_on(Backing::Anonymous);
    let memory = ram.memory();
    for (start, len) in [(0x1001, 0x1000), (0x1800, 0x800), (0x1001, 0x1ffe), (0x1000, 0)] {
        assert_eq!(discard(&memory, GuestAddress(start), len).unwrap(), 0, "{start:#x} {len:#x}");
    }
    assert_eq!(discard(&memory, GuestAddress(0x1fff), 0x1002).unwrap(), 0x1000);
    let bytes = [0x1fff, 0x2000, 0x2fff, 0x3000].map(|at| byte(&ram, at));
    assert_eq!(bytes, [0x5a, 0, 0, 0x5a]);
}

#[test]
fn what_is_not_all_ram_is_refused_and_left_alone() {
    let ram = ram_on(Backing::Anonymous);
    let end = 2 * RAM as u64;
    for (start, len) in
        [(end - 0x1000, 0x2000), (end, 0x1000), (u64::MAX - 0xfff, 0x1000), (0x1000, u64::MAX)]
    {
        let error = discard(&ram.memory(), GuestAddress(start), len).unwrap_err();
        assert!(matches!(error, DiscardError::OutsideRam { .. }), "{error}");
    }
    assert_eq!(resident(&ram), 128);
}

#[test]
fn pages_given_back_are_dirty_and_no_others() {
    let ram = ram_on(Backing::Anonymous);
    discard(&ram.memory(), GuestAddress(RAM as u64 - 0x1000), 0x2000).unwrap();
    let dirty = ram.take_dirty(|_, _| Ok::<_, io::Error>(Vec::new())).unwrap();
    assert!(dirty.contains(0, 63) && dirty.contains(1, 0));
    assert_eq!(dirty.pages(), 2);
}

#[test]
fn a_private_copy_of_a_file_never_turns_into_the_file_again() {
    let mut file = tempfile();
    file.write_all(&vec![0x33; 2 * RAM]).unwrap();
    let ram = ram_on(Backing::CopyOnWrite(file));
    assert_eq!(discard(&ram.memory(), GuestAddress(0), 0x1000).unwrap(), 0);
    assert_eq!(byte(&ram, 0), 0x5a);
}

fn tempfile() -> File {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    nix::sys::memfd::memfd_create(c"test", flags).unwrap().into()
}

#[test]
fn holes_in_huge_pages_are_whole_huge_pages() {
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let config = RamConfig { backing, pages: Pages::Huge2M, ..RamConfig::default() };
        let Ok(ram) = Ram::new(&[(GuestAddress(0), 4 << 20)], config) else {
            eprintln!(
                "SKIPPED holes_in_huge_pages_are_whole_huge_pages: the host has none reserved"
            );
            return;
        };
        ram.memory().write_slice(&[0x5a; 4 << 20], GuestAddress(0)).unwrap();
        assert_eq!(discard(&ram.memory(), GuestAddress(0x1000), 0x1000).unwrap(), 0);
        assert_eq!(discard(&ram.memory(), GuestAddress(0x1000), 0x3f_f000).unwrap(), HUGE);
        assert_eq!([byte(&ram, 0x1f_ffff), byte(&ram, 0x20_0000)], [0x5a, 0]);
    }
}
