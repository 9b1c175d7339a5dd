//! Whose the files are. Run as root, half of these become somebody else first.

use std::{fs, os::unix::fs::MetadataExt, os::unix::fs::PermissionsExt, thread};

use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{set_thread_res_gid, set_thread_res_uid},
};

use crate::guest::{Directory, EPERM, MKDIR, MKNOD, ROOT, SETATTR, SYMLINK, c, u32s};

const NOBODY: u32 = 65_534;

/// Runs `test` with a directory that belongs to an ordinary user, as that user.
fn as_somebody(test: impl FnOnce(Directory) + Send) {
    let directory = Directory::new();
    let root = geteuid().is_root();
    if root {
        std::os::unix::fs::chown(directory.share(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    thread::scope(|scope| {
        let test = scope.spawn(move || {
            if root {
                // For this thread only: these are the system calls, not the C library's.
                let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
                set_thread_res_gid(gid, gid, gid).unwrap();
                set_thread_res_uid(uid, uid, uid).unwrap();
            }
            test(directory);
        });
        test.join().unwrap();
    });
}

fn chown(guest: &mut crate::guest::Guest, node: u64, uid: u32, gid: u32) -> Result<Vec<u8>, i32> {
    let body = [u32s([1 << 1 | 1 << 2, 0]), vec![0; 60], u32s([0, 0, uid, gid, 0])];
    guest.ask(SETATTR, node, &body)
}

#[test]
fn files_of_an_ordinary_user_are_that_users_whoever_asks() {
    as_somebody(|directory| {
        let own = geteuid().as_raw();
        let mut guest = directory.guest();
        for (index, ids) in [(0, 0), (1234, 5678)].into_iter().enumerate() {
            guest.ids = ids;
            let name = format!("file{index}");
            let (node, handle) = guest.create(ROOT, &name, 0o600).unwrap();
            assert_eq!(guest.write(handle, 0, b"text"), Ok(4));
            let (_, mode, uid, _) = guest.stat(node).unwrap();
            assert_eq!((mode, uid), (0o100_600, own));
            guest.ask(MKDIR, ROOT, &[u32s([0o700, 0]), c(&format!("dir{index}"))]).unwrap();
            assert_eq!(chown(&mut guest, node, 0, 0).map(drop), Err(EPERM));
        }
    });
}

#[test]
fn files_that_root_shares_belong_to_whoever_asks() {
    if !geteuid().is_root() {
        return;
    }
    let directory = Directory::new();
    let mut guest = directory.guest();
    guest.ids = (1234, 5678);
    guest.create(ROOT, "file", 0o4755).unwrap();
    guest.ask(MKDIR, ROOT, &[u32s([0o700, 0]), c("dir")]).unwrap();
    guest.ask(SYMLINK, ROOT, &[c("link"), c("/")]).unwrap();
    guest.ask(MKNOD, ROOT, &[u32s([0o010_600, 0, 0, 0]), c("fifo")]).unwrap();
    for name in ["file", "dir", "link", "fifo"] {
        let metadata = fs::symlink_metadata(directory.path(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 5678), "{name}");
    }
    let mode = fs::metadata(directory.path("file")).unwrap().permissions().mode();
    assert_eq!(mode, 0o104_755, "the mode outlives the change of owner");
    let node = guest.lookup(ROOT, "file").unwrap();
    chown(&mut guest, node, 7, 8).unwrap();
    let metadata = fs::metadata(directory.path("file")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (7, 8));
    assert_eq!(chown(&mut guest, node, u32::MAX, 8).map(drop), Err(22), "nobody has this number");
}

#[test]
fn a_directory_that_passes_its_group_on_does() {
    if !geteuid().is_root() {
        return;
    }
    let directory = Directory::new();
    let share = directory.share();
    std::os::unix::fs::chown(&share, Some(0), Some(77)).unwrap();
    fs::set_permissions(&share, fs::Permissions::from_mode(0o2777)).unwrap();
    let mut guest = directory.guest();
    guest.ids = (1234, 5678);
    guest.create(ROOT, "file", 0o644).unwrap();
    guest.ask(MKDIR, ROOT, &[u32s([0o755, 0]), c("dir")]).unwrap();
    let of = |name| fs::metadata(directory.path(name)).unwrap();
    assert_eq!((of("file").uid(), of("file").gid()), (1234, 77));
    assert_eq!((of("dir").gid(), of("dir").mode() & 0o7777), (77, 0o2755));
}
