//! What a guest may make the device hold, and what it may ask at once.

use std::fs;

use purlin_virtio_fs::FsConfig;

use crate::guest::{
    CREATE, Directory, E2BIG, EINVAL, EISDIR, ENFILE, ENOSYS, GETATTR, Guest, INIT, LOOKUP, MKDIR,
    O_RDWR, OPEN, RELEASE, RENAME, RMDIR, ROOT, STATFS, UNLINK, c, config, u32s, u64s,
};

fn few(directory: &Directory) -> Guest {
    Guest::new(&directory.share(), FsConfig { descriptors: 16, ..config() })
}

/// Descriptors of this process that lead into `directory`.
fn open(directory: &Directory) -> usize {
    let share = directory.share();
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    targets.filter(|target| target.starts_with(&share)).count()
}

#[test]
fn open_files_are_limited_and_closing_one_makes_room() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut guest = few(&directory);
    let node = guest.lookup(ROOT, "file").unwrap();
    let handles: Vec<_> = (0..12).map(|_| guest.open(node, 0).unwrap()).collect();
    assert_eq!(guest.open(node, 0), Err(ENFILE));
    assert_eq!(guest.create(ROOT, "new", 0o644), Err(ENFILE));
    assert!(!directory.path("new").exists());
    guest.ask(RELEASE, node, &[u64s([handles[0], 0, 0])]).unwrap();
    assert!(guest.open(node, 0).is_ok());
    assert!(open(&directory) <= 17, "{}", open(&directory));
}

#[test]
fn a_guest_may_know_more_places_than_there_are_descriptors() {
    let directory = Directory::new();
    for index in 0..100 {
        fs::create_dir_all(directory.path(&format!("dir{index}/sub"))).unwrap();
        directory.write(&format!("dir{index}/sub/file"), format!("{index}"));
    }
    let mut guest = few(&directory);
    let nodes: Vec<_> =
        (0..100).map(|index| guest.walk(&format!("dir{index}/sub/file")).unwrap()).collect();
    assert!(open(&directory) <= 5, "{}", open(&directory));
    for (index, node) in nodes.into_iter().enumerate() {
        let handle = guest.open(node, 0).unwrap();
        assert_eq!(guest.read(handle, 0, 9).unwrap(), format!("{index}").as_bytes());
        guest.ask(RELEASE, node, &[u64s([handle, 0, 0])]).unwrap();
    }
    assert!(open(&directory) <= 5, "{}", open(&directory));
}

#[test]
fn a_place_that_was_closed_is_found_where_it_was_moved() {
    let directory = Directory::new();
    fs::create_dir(directory.path("dir")).unwrap();
    directory.write("dir/file", "text");
    let mut guest = few(&directory);
    let dir = guest.lookup(ROOT, "dir").unwrap();
    let file = guest.lookup(dir, "file").unwrap();
    let rename = [u64s([ROOT]), c("dir"), c("moved")];
    guest.ask(crate::guest::RENAME, ROOT, &rename).unwrap();
    for index in 0..20 {
        guest.create_and_close(&format!("{index}"));
    }
    assert_eq!(guest.stat(file).unwrap().0, 4);
}

#[test]
fn a_place_that_was_closed_is_found_by_the_name_that_was_looked_up_last() {
    let directory = Directory::new();
    directory.write("first", "text");
    let mut guest = few(&directory);
    let node = guest.lookup(ROOT, "first").unwrap();
    fs::hard_link(directory.path("first"), directory.path("second")).unwrap();
    assert_eq!(guest.lookup(ROOT, "second"), Ok(node));
    fs::remove_file(directory.path("first")).unwrap();
    for index in 0..20 {
        guest.create_and_close(&format!("{index}"));
    }
    assert_eq!(guest.stat(node).unwrap().0, 4);
}

#[test]
fn what_is_removed_stays_reachable_while_it_is_known() {
    let directory = Directory::new();
    directory.write("file", "text");
    let mut guest = few(&directory);
    let node = guest.lookup(ROOT, "file").unwrap();
    guest.ask(UNLINK, ROOT, &[c("file")]).unwrap();
    for index in 0..20 {
        guest.create_and_close(&format!("{index}"));
    }
    assert_eq!(guest.stat(node).unwrap().0, 4);
}

#[test]
fn what_could_not_be_removed_or_replaced_costs_nothing_afterwards() {
    let directory = Directory::new();
    for name in ["one", "two", "from"] {
        fs::create_dir_all(directory.path(name).join("full")).unwrap();
    }
    directory.write("file", "text");
    let asks = [
        |name| (RMDIR, vec![c(name)]),
        |name| (RENAME, vec![u64s([ROOT]), c("from"), c(name)]),
        |name| (UNLINK, vec![c(name)]),
        |name| (RENAME, vec![u64s([77]), c("from"), c(name)]),
    ];
    for ask in asks {
        let mut guest = few(&directory);
        for name in ["one", "two"] {
            guest.lookup(ROOT, name).unwrap();
            let (opcode, body) = ask(name);
            assert!(guest.ask(opcode, ROOT, &body).is_err(), "{opcode}");
        }
        // Half of the four descriptors for places can be kept for what is removed.
        guest.create_and_close("removed");
        let node = guest.lookup(ROOT, "removed").unwrap();
        guest.ask(UNLINK, ROOT, &[c("removed")]).unwrap();
        for index in 0..20 {
            let name = format!("{index}");
            guest.create_and_close(&name);
            fs::remove_file(directory.path(&name)).unwrap();
        }
        assert_eq!(guest.stat(node).map(|stat| stat.0), Ok(0), "{:?}", ask("one").0);
    }
}

#[test]
fn removed_places_do_not_use_up_all_descriptors() {
    let directory = Directory::new();
    let mut guest = few(&directory);
    for index in 0..50 {
        let name = format!("{index}");
        guest.create_and_close(&name);
        guest.ask(UNLINK, ROOT, &[c(&name)]).unwrap();
    }
    assert!(guest.ask(MKDIR, ROOT, &[u32s([0o755, 0]), c("dir")]).is_ok());
    assert!(open(&directory) <= 5, "{}", open(&directory));
}

#[test]
fn a_deep_directory_is_found_again_or_stale() {
    let directory = Directory::new();
    let mut guest = few(&directory);
    let mut nodes = vec![ROOT];
    for _ in 0..1500 {
        let parent = *nodes.last().unwrap();
        guest.ask(MKDIR, parent, &[u32s([0o755, 0]), c("d")]).unwrap();
        nodes.push(guest.lookup(parent, "d").unwrap());
    }
    for index in 0..20 {
        guest.create_and_close(&format!("{index}"));
    }
    assert!(guest.stat(nodes[1000]).is_ok());
    for index in 0..20 {
        guest.lookup(ROOT, &format!("{index}")).unwrap();
    }
    assert_eq!(guest.stat(nodes[1500]), Err(116));
}

#[test]
fn an_answer_without_room_is_not_begun() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    let asks = [
        (CREATE, [u32s([O_RDWR, 0o644, 0, 0]), c("new")].concat(), 16 + 143),
        (MKDIR, [u32s([0o755, 0]), c("new")].concat(), 16 + 127),
        (LOOKUP, c("new"), 16),
        (GETATTR, u64s([0, 0]), 16 + 103),
        (STATFS, vec![], 16 + 79),
        (INIT, u32s([7, 31, 0, 0]), 16 + 63),
    ];
    for (opcode, body, room) in asks {
        assert_eq!(guest.ask_with_room(opcode, ROOT, &body, room), Err(EINVAL), "{opcode}");
    }
    assert_eq!(fs::read_dir(directory.share()).unwrap().count(), 0);
}

#[test]
fn a_request_that_is_cut_short_is_refused() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut guest = directory.guest();
    // Of those that say something; an OPEN or a FLUSH of zeroes is complete with 8 bytes.
    for opcode in
        [1, 4, 6, 8, 9, 10, 11, 12, 13, 15, 16, 21, 22, 24, 26, 28, 35, 43, 44, 45, 46, 47]
    {
        for len in 0..20 {
            assert!(guest.ask(opcode, ROOT, &[vec![0; len]]).is_err(), "{opcode} {len}");
        }
    }
    assert_eq!(guest.ask(99, ROOT, &[]), Err(ENOSYS));
    assert_eq!(guest.ask(OPEN, ROOT, &[u32s([0, 0])]), Err(EISDIR));
    assert_eq!(guest.ask(LOOKUP, ROOT, &[vec![b'a'; 0x1_4000]]), Err(E2BIG));
}

#[test]
fn a_request_that_lies_about_its_length_is_refused() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut guest = directory.guest();
    for told in [0, 39, 46, u32::MAX] {
        guest.told = Some(told);
        assert_eq!(guest.ask(LOOKUP, ROOT, &[c("file")]), Err(EINVAL), "{told}");
    }
    guest.told = Some(45);
    assert!(guest.ask(LOOKUP, ROOT, &[c("file")]).is_ok());
}

impl Guest {
    fn create_and_close(&mut self, name: &str) {
        let (node, handle) = self.create(ROOT, name, 0o644).unwrap();
        self.ask(RELEASE, node, &[u64s([handle, 0, 0])]).unwrap();
    }
}
