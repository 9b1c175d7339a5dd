//! What is flushed is in the storage, and not in the host's page cache alone.
//!
//! Whether a page is still to be written shows in that the host does not let go of it when asked to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "other tests use the rest")]
mod image;

use std::{
    fs::{self, File},
    io::{IoSliceMut, Write, stderr},
    os::unix::fs::FileExt,
    path::Path,
};

use image::{CLUSTER, Image, LEN, Scratch, open};
use purlin_disk::{Access, Disk, Raw};
use rustix::{
    fs::{Advice, fadvise},
    io::{ReadWriteFlags, preadv2},
};

/// Whether nothing of the file is left to write to storage. All of it is data.
fn is_clean(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    (0..len).step_by(4096).all(|at| {
        let mut byte = [0];
        // What is not in the page cache would have to be waited for.
        preadv2(&file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT).is_err()
    })
}

/// Whether this file system lets go of what is clean, and keeps what is not.
fn tells(scratch: &Scratch) -> bool {
    let path = scratch.path("probe");
    fs::write(&path, [1; 4096]).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    // Anyone may flush all that the host has, at any time.
    let kept = (0..9).any(|_| {
        file.write_all_at(&[2; 512], 0).unwrap();
        !is_clean(&path)
    });
    file.sync_all().unwrap();
    kept && is_clean(&path)
}

#[test]
fn what_is_flushed_is_in_the_storage() {
    let scratch = Scratch::new("durable");
    if !tells(&scratch) {
        let why = "this file system does not tell what is written (tmpfs)";
        return drop(writeln!(stderr(), "SKIPPED what_is_flushed_is_in_the_storage: {why}"));
    }
    let raw = scratch.path("raw");
    fs::write(&raw, vec![1; usize::try_from(LEN).unwrap()]).unwrap();
    let qcow2 = scratch.write("qcow2", &Image::new());
    let disks: [(&Path, Box<dyn Disk>); 2] = [
        (&raw, Box::new(Raw::open(&raw, Access::ReadWrite).unwrap())),
        (&qcow2, Box::new(open(&qcow2).unwrap())),
    ];
    for (path, mut disk) in disks {
        File::open(path).unwrap().sync_all().unwrap();
        disk.write_at(CLUSTER, &[7; 1 << 16]).unwrap();
        disk.flush().unwrap();
        assert!(is_clean(path), "{path:?}");
    }
}
