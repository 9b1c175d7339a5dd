//! Beginning, end, and what a snapshot keeps.

use std::fs;

use device::Persist;
use purlin_virtio_fs::{Cache, Fs, FsConfig, FsState, OpenError, Opened, Place};

use crate::guest::{
    DESTROY, Directory, ENOENT, EPROTO, ESTALE, Guest, INIT, LOOKUP, O_RDWR, OPEN, OPENDIR,
    READDIR, ROOT, UNLINK, c, config, names, u32_at, u32s, u64_at, u64s,
};

fn init(guest: &mut Guest, major: u32, minor: u32, flags: u32) -> Result<Vec<u8>, i32> {
    guest.ask(INIT, 0, &[u32s([major, minor, 0x2_0000, flags]), vec![0; 48]])
}

#[test]
fn the_version_is_agreed_on() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    for (minor, agreed) in [(31, 31), (36, 36), (45, 38)] {
        let answer = init(&mut guest, 7, minor, u32::MAX).unwrap();
        assert_eq!((u32_at(&answer, 0), u32_at(&answer, 4)), (7, agreed));
        assert_eq!(u32_at(&answer, 20), 1 << 20, "max_write");
    }
    assert_eq!(init(&mut guest, 7, 30, 0).map(drop), Err(EPROTO));
    assert_eq!(init(&mut guest, 6, 40, 0).map(drop), Err(EPROTO));
    assert_eq!(u32_at(&init(&mut guest, 8, 0, 0).unwrap(), 0), 7);
}

#[test]
fn only_what_was_offered_is_agreed_on() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    assert_eq!(u32_at(&init(&mut guest, 7, 31, 0).unwrap(), 12), 0);
    let all = u32_at(&init(&mut guest, 7, 31, u32::MAX).unwrap(), 12);
    // No locks, no writeback cache, no access control lists, no zero-message opens.
    assert_eq!(all & (1 << 1 | 1 << 10 | 1 << 16 | 1 << 17 | 1 << 20 | 1 << 24), 0);
}

#[test]
fn the_cache_is_what_the_owner_says() {
    let directory = Directory::new();
    directory.write("file", "");
    for (cache, seconds, flags) in
        [(Cache::None, 0, 1), (Cache::Auto, 1, 0), (Cache::Always, 86_400, 2)]
    {
        let mut guest = Guest::new(&directory.share(), FsConfig { cache, ..config() });
        let entry = guest.ask(LOOKUP, ROOT, &[c("file")]).unwrap();
        assert_eq!((u64_at(&entry, 16), u64_at(&entry, 24)), (seconds, seconds));
        let node = u64_at(&entry, 0);
        let open = guest.ask(OPEN, node, &[u32s([0, 0])]).unwrap();
        assert_eq!(u32_at(&open, 8), flags);
    }
}

#[test]
fn the_guest_reads_the_tag_and_the_number_of_queues() {
    let directory = Directory::new();
    let guest = directory.guest();
    let mut config = [0; 40];
    guest.driver.read_config(0, &mut config);
    assert_eq!(&config[..6], b"share\0");
    assert_eq!(u32_at(&config, 36), 1);
    assert_eq!(guest.driver.queues.len(), 2);
}

#[test]
fn nothing_is_known_after_the_end() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut guest = directory.guest();
    for end in [DESTROY, INIT] {
        let node = guest.lookup(ROOT, "file").unwrap();
        let handle = guest.open(node, 0).unwrap();
        guest.ask(end, 0, &[u32s([7, 31, 0, 0])]).unwrap();
        assert_eq!(guest.stat(node), Err(ESTALE));
        assert_eq!(guest.read(handle, 0, 1), Err(ESTALE));
    }
    let node = guest.lookup(ROOT, "file").unwrap();
    guest.driver.start(guest.driver.offered());
    assert_eq!(guest.stat(node), Err(ESTALE), "a reset ends it too");
    assert!(guest.lookup(ROOT, "file").is_ok());
}

#[test]
fn a_directory_that_is_removed_under_the_guest_gives_errors() {
    let directory = Directory::new();
    directory.write("file", "text");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    let handle = guest.open(node, 0).unwrap();
    fs::remove_dir_all(directory.share()).unwrap();
    assert_eq!(guest.lookup(ROOT, "file"), Err(ENOENT));
    assert_eq!(guest.create(ROOT, "new", 0o644), Err(ENOENT));
    assert_eq!(guest.read(handle, 0, 9).unwrap(), b"text", "what is open stays open");
    assert!(guest.stat(ROOT).is_ok());
}

#[test]
fn what_cannot_be_shared_is_refused_with_its_name() {
    let directory = Directory::new();
    directory.write("file", "");
    for name in ["file", "nothing"] {
        let error = Fs::open(directory.path(name), config()).unwrap_err();
        assert!(matches!(&error, OpenError::Directory { .. }));
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn another_tag_or_access_is_not_restored() {
    let directory = Directory::new();
    let open = |config| Fs::open(directory.share(), config).unwrap();
    let state = open(config()).save().unwrap();
    assert!(open(config()).restore(state.clone()).is_ok());
    let error = open(FsConfig::new("other".parse().unwrap())).restore(state.clone()).unwrap_err();
    assert!(error.to_string().contains("`share`"), "{error}");
    let read_only = FsConfig { read_only: true, ..config() };
    let error = open(read_only).restore(state).unwrap_err();
    assert!(error.to_string().contains("writable"), "{error}");
}

#[test]
fn a_file_for_the_guest_only_is_found_but_not_listed() {
    let directory = Directory::new();
    fs::write(directory.outside("own"), "own").unwrap();
    directory.write("file", "theirs");
    let file = || fs::File::open(directory.outside("own")).unwrap();
    let fs = Fs::open(directory.share(), config()).unwrap();
    for wrong in ["", "a/b", "..", "a\0"] {
        let fs = Fs::open(directory.share(), config()).unwrap();
        assert!(fs.with_file(wrong, file()).is_err(), "{wrong:?}");
    }
    let mut guest = Guest::of(fs.with_file("file", file()).unwrap());
    for _ in 0..2 {
        assert_eq!(guest.cat("file").unwrap(), b"own");
        let node = guest.lookup(ROOT, "file").unwrap();
        guest.forget(node, 99);
        assert_eq!(guest.stat(node).unwrap().0, 3, "it stays");
        guest.driver.start(guest.driver.offered());
    }
    assert_eq!(guest.ask(UNLINK, ROOT, &[c("file")]), Ok(vec![]));
    assert_eq!(guest.cat("file").unwrap(), b"own");
    assert_eq!(fs::read_dir(directory.share()).unwrap().count(), 0);
}

#[test]
fn a_file_for_the_guest_only_is_written_to_even_if_the_directory_is_not() {
    let directory = Directory::new();
    let path = directory.outside("own");
    fs::write(&path, "").unwrap();
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let config = FsConfig { read_only: true, ..config() };
    let fs = Fs::open(directory.share(), config).unwrap().with_file("own", file).unwrap();
    let mut guest = Guest::of(fs);
    let node = guest.lookup(ROOT, "own").unwrap();
    let handle = guest.open(node, O_RDWR).unwrap();
    assert_eq!(guest.write(handle, 0, b"text"), Ok(4));
    assert_eq!(fs::read(path).unwrap(), b"text");
}

/// The guest goes on with another device, as after a restore elsewhere.
fn moved(mut guest: Guest, fs: Fs) -> Guest {
    guest.driver = guest.driver.transplant(virtio::mmio(fs));
    guest
}

#[test]
fn a_restored_guest_goes_on_with_its_files() {
    let directory = Directory::new();
    fs::create_dir(directory.path("dir")).unwrap();
    directory.write("dir/file", "0123456789");
    directory.write("gone", "");
    let mut guest = directory.guest();
    let dir = guest.lookup(ROOT, "dir").unwrap();
    let file = guest.lookup(dir, "file").unwrap();
    let gone = guest.lookup(ROOT, "gone").unwrap();
    let handle = guest.open(file, O_RDWR).unwrap();
    let lost = guest.open(gone, 0).unwrap();
    let list = u64_at(&guest.ask(OPENDIR, dir, &[u32s([0, 0])]).unwrap(), 0);
    fs::rename(directory.path("gone"), directory.outside("gone")).unwrap();
    directory.write("gone", "another");

    let mut guest = moved(guest, Fs::open(directory.share(), config()).unwrap());
    assert_eq!(guest.read(handle, 8, 9).unwrap(), b"89");
    assert_eq!(guest.write(handle, 0, b"new"), Ok(3));
    assert_eq!(guest.stat(file).unwrap().0, 10);
    assert_eq!(guest.lookup(dir, "file"), Ok(file), "one file has one number");
    let body = [u64s([list, 0]), u32s([4096, 0]), u64s([0, 0])];
    let names = names(&guest.ask(READDIR, dir, &body).unwrap(), false);
    assert!(names.iter().any(|name| name.0 == "file"));
    assert_eq!(guest.stat(gone), Err(ESTALE), "something else has its name");
    assert_eq!(guest.read(lost, 0, 1), Err(ESTALE));
    assert_ne!(guest.lookup(ROOT, "gone"), Ok(gone));
    guest.forget(file, 2);
    assert_eq!(guest.stat(file), Err(ESTALE), "it was told twice");
    assert_eq!(directory.read("dir/file"), b"new3456789");
}

#[test]
fn a_file_of_a_read_only_directory_is_not_restored_for_writing() {
    let directory = Directory::new();
    directory.write("file", "text");
    let config = FsConfig { read_only: true, ..config() };
    let mut fs = Fs::open(directory.share(), config).unwrap();
    let mut state = fs.save().unwrap();
    state.open = vec![Opened { handle: 1, node: ROOT, flags: O_RDWR }];
    state.next_open = 2;
    let error = fs.restore(state.clone()).unwrap_err().to_string();
    assert!(error.contains("open for writing"), "{error}");
    state.open[0].flags = 0;
    fs.restore(state).unwrap();
}

#[test]
fn a_state_that_cannot_be_is_refused_and_changes_nothing() {
    let directory = Directory::new();
    directory.write("file", "");
    fs::write(directory.outside("own"), "").unwrap();
    let own = fs::File::open(directory.outside("own")).unwrap();
    let mut fs = Fs::open(directory.share(), config()).unwrap().with_file("own", own).unwrap();
    let before = fs.save().unwrap();
    let place = Place {
        node: 3,
        parent: ROOT,
        name: "file".into(),
        lookups: 1,
        kind: 0o100_000,
        device: (0, 0),
        ino: 1,
        born: (0, 0),
    };
    let good = FsState { places: vec![place.clone()], next_place: 4, ..before.clone() };
    for wrong in [
        Place { node: 0, ..place.clone() },
        Place { node: ROOT, ..place.clone() },
        Place { node: 2, ..place.clone() },
        Place { node: 4, ..place.clone() },
        Place { lookups: 0, ..place.clone() },
        Place { name: "..".into(), ..place.clone() },
        Place { name: "a/b".into(), ..place.clone() },
        Place { name: "a\0b".into(), ..place.clone() },
        Place { name: String::new(), ..place.clone() },
    ] {
        let state = FsState { places: vec![wrong.clone()], ..good.clone() };
        assert!(fs.restore(state).is_err(), "{wrong:?}");
    }
    let twice = FsState { places: vec![place.clone(), place], ..good.clone() };
    assert!(fs.restore(twice).is_err());
    for (open, next_open) in
        [(vec![0], 9), (vec![9], 9), (vec![1, 1], 9), ((1..=1000).collect(), 1001)]
    {
        let open = open.into_iter().map(|handle| Opened { handle, node: 1, flags: 0 }).collect();
        assert!(fs.restore(FsState { open, next_open, ..good.clone() }).is_err());
    }
    assert_eq!(fs.save().unwrap(), before);
    fs.restore(good.clone()).unwrap();
    assert_eq!(fs.save().unwrap(), good);
}
