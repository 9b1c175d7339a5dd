//! Making, moving and removing.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use crate::guest::{
    CREATE, Directory, EBADF, EEXIST, EINVAL, ENOENT, ENOTDIR, ENOTEMPTY, EROFS, Guest, LINK,
    MKDIR, MKNOD, O_EXCL, O_RDWR, O_TRUNC, O_WRONLY, OPEN, READLINK, REMOVEXATTR, RENAME, RENAME2,
    RMDIR, ROOT, SETATTR, SETXATTR, SYMLINK, UNLINK, c, config, u32s, u64s,
};

#[test]
fn what_the_guest_makes_is_on_the_host() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    guest.ask(MKDIR, ROOT, &[u32s([0o751, 0o22]), c("dir")]).unwrap();
    let dir = guest.lookup(ROOT, "dir").unwrap();
    let (_, handle) = guest.create(dir, "file", 0o640).unwrap();
    assert_eq!(guest.write(handle, 0, b"hello"), Ok(5));
    guest.ask(SYMLINK, dir, &[c("link"), c("file")]).unwrap();
    guest.ask(MKNOD, dir, &[u32s([0o100_604, 0, 0, 0]), c("node")]).unwrap();
    let mode = |name| directory.path(name).symlink_metadata().unwrap().permissions().mode();
    assert_eq!(directory.read("dir/file"), b"hello");
    assert_eq!(mode("dir"), 0o040_751);
    assert_eq!(mode("dir/file"), 0o100_640);
    assert_eq!(mode("dir/node"), 0o100_604);
    assert_eq!(fs::read_link(directory.path("dir/link")).unwrap().to_str(), Some("file"));
    let link = guest.lookup(dir, "link").unwrap();
    assert_eq!(guest.ask(READLINK, link, &[]).unwrap(), b"file");
}

#[test]
fn the_umask_of_the_host_is_not_the_guests() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    guest.create(ROOT, "file", 0o666).unwrap();
    guest.ask(MKDIR, ROOT, &[u32s([0o1777, 0]), c("dir")]).unwrap();
    let mode = |name| directory.path(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("file"), mode("dir")), (0o666, 0o1777));
}

#[test]
fn what_is_there_is_not_made_again() {
    let directory = Directory::new();
    directory.write("file", "text");
    let mut guest = directory.guest();
    assert_eq!(guest.ask(MKDIR, ROOT, &[u32s([0o755, 0]), c("file")]), Err(EEXIST));
    assert_eq!(guest.ask(MKNOD, ROOT, &[u32s([0o100_644, 0, 0, 0]), c("file")]), Err(EEXIST));
    let exclusive = [u32s([O_EXCL | O_WRONLY, 0o644, 0, 0]), c("file")];
    assert_eq!(guest.ask(CREATE, ROOT, &exclusive), Err(EEXIST));
    let (node, _) = guest.create(ROOT, "file", 0o644).unwrap();
    assert_eq!(guest.stat(node).unwrap().0, 4, "opening it changes nothing");
    let truncate = [u32s([O_TRUNC | O_RDWR, 0o644, 0, 0]), c("file")];
    guest.ask(CREATE, ROOT, &truncate).unwrap();
    assert_eq!(directory.read("file"), b"");
}

#[test]
fn removing_is_by_kind() {
    let directory = Directory::new();
    fs::create_dir_all(directory.path("dir/sub")).unwrap();
    directory.write("file", "");
    let mut guest = directory.guest();
    assert_eq!(guest.ask(RMDIR, ROOT, &[c("file")]), Err(ENOTDIR));
    assert!(guest.ask(UNLINK, ROOT, &[c("dir")]).is_err());
    assert_eq!(guest.ask(RMDIR, ROOT, &[c("dir")]), Err(ENOTEMPTY));
    guest.ask(UNLINK, ROOT, &[c("file")]).unwrap();
    assert_eq!(guest.ask(UNLINK, ROOT, &[c("file")]), Err(ENOENT));
    let dir = guest.lookup(ROOT, "dir").unwrap();
    guest.ask(RMDIR, dir, &[c("sub")]).unwrap();
    guest.ask(RMDIR, ROOT, &[c("dir")]).unwrap();
    assert_eq!(fs::read_dir(directory.share()).unwrap().count(), 0);
}

#[test]
fn removing_a_link_leaves_its_target() {
    let directory = Directory::new();
    symlink(directory.outside("secret"), directory.path("link")).unwrap();
    let mut guest = directory.guest();
    guest.ask(UNLINK, ROOT, &[c("link")]).unwrap();
    assert!(directory.outside("secret").exists());
}

#[test]
fn renaming_moves_replaces_and_exchanges() {
    let directory = Directory::new();
    fs::create_dir(directory.path("dir")).unwrap();
    for name in ["a", "b"] {
        directory.write(name, name);
    }
    let mut guest = directory.guest();
    let dir = guest.lookup(ROOT, "dir").unwrap();
    guest.ask(RENAME, ROOT, &[u64s([dir]), c("a"), c("c")]).unwrap();
    assert_eq!(directory.read("dir/c"), b"a");
    let keep = [u64s([dir]), u32s([1, 0]), c("b"), c("c")];
    assert_eq!(guest.ask(RENAME2, ROOT, &keep), Err(EEXIST));
    let exchange = [u64s([dir]), u32s([2, 0]), c("b"), c("c")];
    guest.ask(RENAME2, ROOT, &exchange).unwrap();
    assert_eq!((directory.read("dir/c"), directory.read("b")), (b"b".to_vec(), b"a".to_vec()));
    guest.ask(RENAME, ROOT, &[u64s([dir]), c("b"), c("c")]).unwrap();
    assert_eq!(directory.read("dir/c"), b"a");
    let whiteout = [u64s([dir]), u32s([4, 0]), c("b"), c("c")];
    assert_eq!(guest.ask(RENAME2, ROOT, &whiteout), Err(EINVAL));
    let into_itself = guest.ask(RENAME, ROOT, &[u64s([dir]), c("dir"), c("x")]);
    assert_eq!(into_itself, Err(EINVAL));
}

#[test]
fn a_hard_link_is_the_same_file() {
    let directory = Directory::new();
    directory.write("file", "text");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    guest.ask(LINK, ROOT, &[u64s([node]), c("second")]).unwrap();
    assert_eq!(guest.lookup(ROOT, "second"), Ok(node));
    let metadata = fs::metadata(directory.path("second")).unwrap();
    assert_eq!(metadata.nlink(), 2);
    assert!(guest.ask(LINK, ROOT, &[u64s([ROOT]), c("dir")]).is_err(), "of a directory");
}

#[test]
fn one_file_has_one_number_until_it_is_forgotten() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    assert_eq!(guest.lookup(ROOT, "file"), Ok(node));
    guest.forget(node, 1);
    assert!(guest.stat(node).is_ok(), "it was told twice");
    guest.forget(node, 1);
    assert_eq!(guest.stat(node), Err(116));
    assert_ne!(guest.lookup(ROOT, "file"), Ok(node), "numbers are not used again");
    guest.forget(ROOT, u64::MAX);
    assert!(guest.stat(ROOT).is_ok(), "the root stays");
}

#[test]
fn a_file_made_anew_has_a_new_number() {
    let directory = Directory::new();
    directory.write("file", "old");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    directory.write("other", "new");
    fs::rename(directory.path("other"), directory.path("file")).unwrap();
    assert_ne!(guest.lookup(ROOT, "file"), Ok(node));
    assert_eq!(guest.cat("file").unwrap(), b"new");
}

#[test]
fn read_only_means_that_nothing_changes() {
    let directory = Directory::new();
    directory.write("file", "text");
    let config = purlin_virtio_fs::FsConfig { read_only: true, ..config() };
    let mut guest = Guest::new(&directory.share(), config);
    let node = guest.lookup(ROOT, "file").unwrap();
    let bodies = [
        (MKDIR, [u32s([0o755, 0]), c("a")].concat()),
        (MKNOD, [u32s([0o100_644, 0, 0, 0]), c("a")].concat()),
        (CREATE, [u32s([0, 0o644, 0, 0]), c("a")].concat()),
        (SYMLINK, [c("a"), c("b")].concat()),
        (UNLINK, c("file")),
        (RMDIR, c("file")),
        (RENAME, [u64s([ROOT]), c("file"), c("a")].concat()),
        (RENAME2, [u64s([ROOT, 0]), c("file"), c("a")].concat()),
        (LINK, [u64s([node]), c("a")].concat()),
    ];
    for (opcode, body) in bodies {
        assert_eq!(guest.ask(opcode, ROOT, &[body]), Err(EROFS), "{opcode}");
    }
    assert_eq!(guest.ask(SETATTR, node, &[u32s([1, 0]), vec![0; 80]]), Err(EROFS));
    let attribute = [u32s([1, 0]), c("user.a"), b"1".to_vec()];
    assert_eq!(guest.ask(SETXATTR, node, &attribute), Err(EROFS));
    assert_eq!(guest.ask(REMOVEXATTR, node, &[c("user.a")]), Err(EROFS));
    for flags in [O_WRONLY, O_RDWR, O_TRUNC, 3] {
        assert_eq!(guest.ask(OPEN, node, &[u32s([flags, 0])]), Err(EROFS), "{flags}");
    }
    let handle = guest.open(node, 0).unwrap();
    assert_eq!(guest.write(handle, 0, b"no"), Err(EBADF));
    assert_eq!(guest.read(handle, 0, 10).unwrap(), b"text");
    assert_eq!(fs::read_dir(directory.share()).unwrap().count(), 1);
}
