//! There is no way out of the directory.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::guest::{
    CREATE, DESTROY, Directory, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO, EPERM, Guest,
    LINK, LOOKUP, MKDIR, MKNOD, O_WRONLY, OPEN, OPENDIR, READLINK, RENAME, RENAME2, RMDIR, ROOT,
    SETATTR, SYMLINK, SYNCFS, UNLINK, c, config, u32s, u64s,
};

/// Bytes before the name, of the requests that have one.
fn named(name: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let with = |body: Vec<u8>| [body, name.to_vec()].concat();
    vec![
        (LOOKUP, with(vec![])),
        (MKDIR, with(u32s([0o755, 0]))),
        (MKNOD, with(u32s([0o100_644, 0, 0, 0]))),
        (CREATE, with(u32s([O_WRONLY, 0o644, 0, 0]))),
        (UNLINK, with(vec![])),
        (RMDIR, with(vec![])),
        (SYMLINK, [name, b"text\0"].concat()),
        (RENAME, [&u64s([ROOT])[..], name, b"new\0"].concat()),
        (RENAME, [&u64s([ROOT])[..], b"old\0", name].concat()),
        (RENAME2, [&u64s([ROOT, 0])[..], b"old\0", name].concat()),
        (LINK, with(u64s([ROOT]))),
    ]
}

#[test]
fn names_that_are_not_one_step_down_are_refused_everywhere() {
    let directory = Directory::new();
    directory.write("old", "old");
    let mut guest = directory.guest();
    for wrong in ["..", ".", "", "/", "../secret", "/etc/passwd", "old/", "a/../b", "./old"] {
        for (opcode, body) in named(&c(wrong)) {
            let answer = guest.ask(opcode, ROOT, &[body]);
            assert_eq!(answer.unwrap_err(), EINVAL, "{opcode} {wrong:?}");
        }
    }
    let long = c(&"n".repeat(256));
    for (opcode, body) in named(&long) {
        assert_eq!(guest.ask(opcode, ROOT, &[body]).unwrap_err(), ENAMETOOLONG, "{opcode}");
    }
    assert_eq!(fs::read(directory.outside("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(directory.share()).unwrap().count(), 1);
}

#[test]
fn a_name_ends_with_its_nul_and_one_without_is_refused() {
    let directory = Directory::new();
    directory.write("a", "");
    let mut guest = directory.guest();
    assert!(guest.ask(LOOKUP, ROOT, &[b"a\0/../../secret\0".to_vec()]).is_ok());
    assert_eq!(guest.ask(LOOKUP, ROOT, &[b"a".to_vec()]), Err(EINVAL));
    assert_eq!(guest.ask(SYMLINK, ROOT, &[b"b\0text".to_vec()]), Err(EINVAL));
}

#[test]
fn a_link_is_told_and_never_followed() {
    let directory = Directory::new();
    let targets = ["/etc/passwd", "../secret", "..", "/", "/proc/self/root"];
    for (index, target) in targets.iter().enumerate() {
        symlink(target, directory.path(&format!("link{index}"))).unwrap();
    }
    let mut guest = directory.guest();
    for (index, target) in targets.iter().enumerate() {
        let name = format!("link{index}");
        let node = guest.lookup(ROOT, &name).unwrap();
        assert_eq!(guest.ask(READLINK, node, &[]).unwrap(), target.as_bytes());
        assert_eq!(guest.stat(node).unwrap().1 & 0o170_000, 0o120_000);
        assert_eq!(guest.open(node, 0), Err(ELOOP));
        assert_eq!(guest.ask(OPENDIR, node, &[u32s([0, 0])]), Err(ENOTDIR));
        // As a step in the middle of a path.
        assert_eq!(guest.lookup(node, "passwd"), Err(ENOTDIR));
        assert_eq!(guest.lookup(node, "secret"), Err(ENOTDIR));
        // Neither creating nor truncating goes through it.
        assert_eq!(guest.create(ROOT, &name, 0o644), Err(ELOOP));
        let size = [u32s([1 << 3, 0]), vec![0; 80]];
        assert_eq!(guest.ask(SETATTR, node, &size), Err(ELOOP));
    }
    assert_eq!(fs::read(directory.outside("secret")).unwrap(), b"secret");
}

#[test]
fn the_mode_and_times_of_a_link_are_its_own() {
    let directory = Directory::new();
    symlink(directory.outside("secret"), directory.path("link")).unwrap();
    let before = fs::metadata(directory.outside("secret")).unwrap();
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "link").unwrap();
    let mode = [u32s([1, 0]), vec![0; 60], u32s([0o777, 0, 0, 0, 0])];
    assert_eq!(guest.ask(SETATTR, node, &mode), Err(95));
    let times = [u32s([1 << 4 | 1 << 5, 0]), vec![0; 80]];
    guest.ask(SETATTR, node, &times).unwrap();
    let after = fs::metadata(directory.outside("secret")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(before.permissions(), after.permissions());
    let link = fs::symlink_metadata(directory.path("link")).unwrap();
    assert_eq!(link.modified().unwrap(), std::time::UNIX_EPOCH);
}

#[test]
fn a_link_to_a_link_is_a_link() {
    let directory = Directory::new();
    symlink(directory.outside("secret"), directory.path("link")).unwrap();
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "link").unwrap();
    guest.ask(LINK, ROOT, &[u64s([node]), c("second")]).unwrap();
    assert!(fs::symlink_metadata(directory.path("second")).unwrap().is_symlink());
    assert_eq!(fs::metadata(directory.outside("secret")).unwrap().len(), 6);
}

#[test]
fn numbers_that_were_never_told_lead_nowhere() {
    let directory = Directory::new();
    directory.write("a", "");
    let mut guest = directory.guest();
    for node in [0, 2, 77, u64::MAX] {
        assert_eq!(guest.lookup(node, "a"), Err(116));
        assert_eq!(guest.ask(RENAME, ROOT, &[u64s([node]), c("a"), c("b")]), Err(116));
        assert_eq!(guest.ask(LINK, ROOT, &[u64s([node]), c("b")]), Err(116));
        assert_eq!(guest.ask(LINK, node, &[u64s([ROOT]), c("b")]), Err(116));
    }
}

#[test]
fn what_links_of_proc_lead_to_is_not_reached() {
    let mut guest = Guest::new("/proc".as_ref(), config());
    let own = guest.lookup(ROOT, "self").unwrap();
    assert_eq!(guest.lookup(own, "root"), Err(ENOTDIR), "a link in the middle");
    let own = guest.lookup(ROOT, &std::process::id().to_string()).unwrap();
    for name in ["root", "cwd", "exe"] {
        let node = guest.lookup(own, name).unwrap();
        assert_eq!(guest.lookup(node, "etc"), Err(ENOTDIR));
        assert_eq!(guest.open(node, 0), Err(ELOOP));
        assert_eq!(guest.ask(OPENDIR, node, &[u32s([0, 0])]), Err(ENOTDIR));
    }
    let descriptors = guest.lookup(own, "fd").unwrap();
    let node = guest.lookup(descriptors, "0").unwrap();
    assert_eq!(guest.open(node, 0), Err(ELOOP));
}

#[test]
fn devices_are_neither_made_nor_opened() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    for kind in [0o020_000, 0o060_000] {
        let body = [u32s([kind | 0o666, 0x0103, 0, 0]), c("device")];
        assert_eq!(guest.ask(MKNOD, ROOT, &body), Err(EPERM));
    }
    let mut guest = Guest::new("/dev".as_ref(), config());
    let node = guest.lookup(ROOT, "null").unwrap();
    assert_eq!(guest.open(node, 0), Err(ENXIO));
    assert_eq!(guest.ask(CREATE, ROOT, &[u32s([1, 0o644, 0, 0]), c("null")]), Err(ENXIO));
}

#[test]
fn a_fifo_is_not_opened_so_that_nobody_waits() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    for (kind, name) in [(0o010_000, "fifo"), (0o140_000, "socket")] {
        guest.ask(MKNOD, ROOT, &[u32s([kind | 0o644, 0, 0, 0]), c(name)]).unwrap();
        let node = guest.lookup(ROOT, name).unwrap();
        assert_eq!(guest.stat(node).unwrap().1, kind | 0o644);
        for flags in [0, 1, 2] {
            assert_eq!(guest.ask(OPEN, node, &[u32s([flags, 0])]), Err(ENXIO));
        }
        assert_eq!(guest.ask(SYNCFS, node, &[u64s([0])]), Err(ENXIO));
        assert_eq!(guest.create(ROOT, name, 0o644), Err(ENXIO));
    }
}

/// Ends the other thread however this one ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_directory_that_becomes_a_link_while_it_is_walked_is_not_followed() {
    let directory = Directory::new();
    fs::create_dir_all(directory.outside("outer/inner")).unwrap();
    fs::write(directory.outside("outer/inner/file"), "secret").unwrap();
    fs::create_dir_all(directory.path("real/inner")).unwrap();
    directory.write("real/inner/file", "ours");
    symlink(directory.outside("outer"), directory.path("link")).unwrap();
    let stop = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            // `place` is now the directory, now the link.
            while !stop.load(Ordering::Relaxed) {
                for name in ["real", "link"] {
                    let _ = fs::rename(directory.path(name), directory.path("place"));
                    let _ = fs::rename(directory.path("place"), directory.path(name));
                }
            }
        });
        let _stop = Stop(&stop);
        let mut guest = directory.guest();
        let mut found = 0;
        for _ in 0..100_000 {
            match guest.cat("place/inner/file") {
                Ok(text) => {
                    assert_eq!(text, b"ours");
                    found += 1;
                }
                Err(ENOENT | ENOTDIR) => {}
                Err(other) => panic!("{other}"),
            }
            // The number of handles is limited.
            guest.ask(DESTROY, 0, &[]).unwrap();
            if found > 300 {
                break;
            }
        }
        found
    });
    assert!(found > 0, "the directory was never met");
}

#[test]
fn what_was_closed_and_became_a_link_is_stale() {
    let directory = Directory::new();
    fs::create_dir(directory.path("place")).unwrap();
    directory.write("place/file", "ours");
    let mut guest = Guest::new(&directory.share(), config_with(16));
    let place = guest.lookup(ROOT, "place").unwrap();
    // Four descriptors are for places: these drive `place` out.
    for index in 0..16 {
        directory.write(&format!("file{index}"), "");
        guest.lookup(ROOT, &format!("file{index}")).unwrap();
    }
    fs::rename(directory.path("place"), directory.outside("place")).unwrap();
    symlink("../place", directory.path("place")).unwrap();
    assert_eq!(guest.lookup(place, "file"), Err(116));
    assert_eq!(guest.lookup(place, "secret"), Err(116));
}

fn config_with(descriptors: usize) -> purlin_virtio_fs::FsConfig {
    purlin_virtio_fs::FsConfig { descriptors, ..config() }
}
