//! qcow2 images: what is written is read, by us and by others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "other tests use the rest")]
mod image;

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::PathBuf,
};

use image::{CLUSTER, Image, LEN, Scratch, open};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use purlin_disk::{Access, Backing, Disk, OpenError, Qcow2, Raw};

fn read(disk: &mut impl Disk, offset: u64) -> [u8; 8] {
    let mut bytes = [9; 8];
    disk.read_at(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_written_is_read_and_outlives_the_process_after_a_flush() {
    let scratch = Scratch::new("write");
    let path = scratch.write("a", &Image::new());
    let mut disk = open(&path).unwrap();
    assert_eq!((disk.len(), disk.is_read_only()), (LEN, false));
    assert_eq!(read(&mut disk, 0), [0; 8]);
    disk.write_at(CLUSTER - 4, b"abcdefgh").unwrap();
    assert_eq!(&read(&mut disk, CLUSTER - 4), b"abcdefgh");
    disk.flush().unwrap();
    // As if the process had been killed: nothing is written when the disk goes.
    let killed = fs::read(&path).unwrap();
    drop(disk);
    let path = scratch.write("b", &Image(killed));
    let mut disk = Qcow2::open(&path, Access::ReadOnly, &Backing::Refused).unwrap();
    assert_eq!(&read(&mut disk, CLUSTER - 4), b"abcdefgh");
    assert_eq!(read(&mut disk, 2 * CLUSTER), [0; 8]);
}

#[test]
fn a_flush_is_for_the_tables_too() {
    let scratch = Scratch::new("tables-flushed");
    let path = scratch.write("a", &Image::new());
    let mut disk = open(&path).unwrap();
    disk.write_at(0, b"the table is there").unwrap();
    disk.flush().unwrap();
    // Only an entry of it changes, which is kept back.
    disk.write_at(5 * CLUSTER, b"an entry").unwrap();
    disk.flush().unwrap();
    let killed = scratch.write("b", &Image(fs::read(&path).unwrap()));
    let mut disk = Qcow2::open(&killed, Access::ReadOnly, &Backing::Refused).unwrap();
    assert_eq!(&read(&mut disk, 5 * CLUSTER), b"an entry");
}

#[test]
fn an_image_of_a_killed_process_can_be_written_again() {
    let scratch = Scratch::new("killed");
    let path = scratch.write("a", &Image::new());
    let mut disk = open(&path).unwrap();
    disk.write_at(0, b"flushed").unwrap();
    disk.flush().unwrap();
    for at in 0..8 {
        disk.write_at(at * CLUSTER + 4096, b"not flushed").unwrap();
        // As if the process had been killed now.
        let path = scratch.write("b", &Image(fs::read(&path).unwrap()));
        let mut killed = open(&path).unwrap();
        assert_eq!(&read(&mut killed, 0)[..7], b"flushed");
        killed.write_at(3 * CLUSTER, b"again").unwrap();
    }
    // Before any flush, too; and with snapshots, when nothing that is not counted can be made up for.
    for snapshots in [0, 1] {
        let path = scratch.write("c", Image::new().u32(60, snapshots));
        let mut disk = open(&path).unwrap();
        disk.write_at(0, b"first").unwrap();
        open(&scratch.write("d", &Image(fs::read(&path).unwrap()))).unwrap();
    }
}

#[test]
fn the_whole_disk_can_be_written_and_nothing_beyond() {
    let scratch = Scratch::new("whole");
    let path = scratch.write("a", &Image::new());
    let mut disk = open(&path).unwrap();
    let data: Vec<u8> = (0..LEN).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    for (at, piece) in data.chunks(10_240).enumerate() {
        disk.write_at(u64::try_from(at).unwrap() * 10_240, piece).unwrap();
    }
    for offset in [LEN - 7, LEN, u64::MAX - 7, u64::MAX] {
        assert_eq!(disk.read_at(offset, &mut [0; 8]).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(disk.write_at(offset, &[2; 8]).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(disk.discard(offset, 8).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    drop(disk);
    let mut disk = open(&path).unwrap();
    let mut found = vec![0; data.len()];
    disk.read_at(0, &mut found).unwrap();
    assert!(found == data);
    assert!(fs::metadata(&path).unwrap().len() < 2 * LEN);
}

#[test]
fn zeroes_and_discarded_clusters_read_as_zeroes() {
    for unmap in [false, true] {
        let scratch = Scratch::new(if unmap { "unmap" } else { "zeroes" });
        let path = scratch.write("a", &Image::new());
        let mut disk = open(&path).unwrap();
        disk.write_at(0, &vec![1; 4 << 16]).unwrap();
        disk.write_zeroes(512, 2 * CLUSTER, unmap).unwrap();
        disk.discard(3 * CLUSTER, CLUSTER).unwrap();
        drop(disk);
        let mut disk = open(&path).unwrap();
        let mut found = vec![9; 4 << 16];
        disk.read_at(0, &mut found).unwrap();
        let mut expected = vec![1; 4 << 16];
        expected[512..512 + (2 << 16)].fill(0);
        expected[3 << 16..].fill(0);
        assert!(found == expected);
    }
}

#[test]
fn discarded_room_goes_back_to_the_host_and_is_used_again() {
    let scratch = Scratch::new("discard");
    let path = scratch.write("a", &Image::new());
    let mut disk = open(&path).unwrap();
    disk.write_at(0, &vec![1; 12 << 16]).unwrap();
    disk.flush().unwrap();
    let blocks = || fs::metadata(&path).unwrap().blocks();
    let before = blocks();
    // Eight whole clusters, and parts of two.
    disk.discard(CLUSTER - 512, 8 * CLUSTER + 1024).unwrap();
    disk.flush().unwrap();
    assert_eq!(before - blocks(), 8 * CLUSTER / 512);
    assert_eq!(read(&mut disk, CLUSTER - 8), [1; 8]);
    assert_eq!(read(&mut disk, CLUSTER), [0; 8]);
    assert_eq!(read(&mut disk, 9 * CLUSTER - 8), [0; 8]);
    assert_eq!(read(&mut disk, 9 * CLUSTER), [1; 8]);
    let len = fs::metadata(&path).unwrap().len();
    disk.write_at(0, &vec![2; 9 << 16]).unwrap();
    drop(disk);
    assert_eq!(fs::metadata(&path).unwrap().len(), len);
    assert_eq!(read(&mut open(&path).unwrap(), 8 * CLUSTER), [2; 8]);
}

#[test]
fn an_image_behind_it_shows_through_and_is_not_changed() {
    let scratch = Scratch::new("behind");
    fs::write(scratch.path("base"), vec![7; 1 << 18]).unwrap();
    let mut middle = Image::new();
    scratch.write("middle", middle.backed_by("base", "raw"));
    let mut front = Image::new();
    let path = scratch.write("front", front.backed_by("middle", "qcow2"));
    let before = fs::read(scratch.path("middle")).unwrap();

    let mut disk = Qcow2::open(&path, Access::ReadWrite, &Backing::Any).unwrap();
    assert_eq!(read(&mut disk, 0), [7; 8]);
    assert_eq!(read(&mut disk, 1 << 18), [0; 8]);
    disk.write_at(4, &[1; 4]).unwrap();
    assert_eq!(read(&mut disk, 0), [7, 7, 7, 7, 1, 1, 1, 1]);
    disk.write_zeroes(CLUSTER, CLUSTER, true).unwrap();
    assert_eq!(read(&mut disk, CLUSTER), [0; 8]);
    disk.flush().unwrap();
    drop(disk);

    assert!(before == fs::read(scratch.path("middle")).unwrap());
    let mut disk = Qcow2::open(&path, Access::ReadOnly, &Backing::In(scratch.0.clone())).unwrap();
    assert_eq!(read(&mut disk, 0), [7, 7, 7, 7, 1, 1, 1, 1]);
    assert_eq!(read(&mut disk, CLUSTER), [0; 8]);
}

#[test]
fn every_image_of_the_chain_is_locked() {
    let scratch = Scratch::new("locks");
    let base = scratch.path("base");
    fs::write(&base, vec![7; 1 << 18]).unwrap();
    let mut front = Image::new();
    let path = scratch.write("front", front.backed_by("base", "raw"));
    let open = || Qcow2::open(&path, Access::ReadWrite, &Backing::Any);
    let disk = open().unwrap();
    assert!(matches!(open().unwrap_err(), OpenError::Locked { .. }));
    assert!(matches!(Raw::open(&base, Access::ReadWrite), Err(OpenError::Locked { .. })));
    Raw::open(&base, Access::ReadOnly).unwrap();
    drop(disk);
    let writer = Raw::open(&base, Access::ReadWrite).unwrap();
    assert!(image::told(&open().unwrap_err()).contains("is in use"));
    drop(writer);
    open().unwrap();
}

#[test]
fn a_read_only_image_is_not_touched() {
    let scratch = Scratch::new("read-only");
    // A feature that whoever writes must clear.
    let path = scratch.write("a", Image::new().u64(88, 1));
    let before = fs::read(&path).unwrap();
    let mut disk = Qcow2::open(&path, Access::ReadOnly, &Backing::Refused).unwrap();
    let refused =
        [disk.write_at(0, &[2]), disk.discard(0, CLUSTER), disk.write_zeroes(0, CLUSTER, true)];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    disk.flush().unwrap();
    drop(disk);
    assert!(before == fs::read(&path).unwrap());
}

#[test]
fn an_image_cut_short_is_an_error_and_not_zeroes() {
    let scratch = Scratch::new("cut");
    let path = scratch.write("a", &Image::new());
    let mut disk = open(&path).unwrap();
    disk.write_at(0, &vec![1; 4 << 16]).unwrap();
    disk.flush().unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(5 * CLUSTER).unwrap();
    let error = disk.read_at(2 * CLUSTER, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    assert!(error.to_string().contains("cut short"), "{error}");
}

/// An image in memory that can be kept from being written: the file, and where it is.
fn sealable() -> (File, PathBuf) {
    let file = File::from(memfd_create("image", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    fs::write(&path, &Image::new().0).unwrap();
    (file, path)
}

#[test]
fn a_host_that_does_not_write_is_an_error() {
    let (file, path) = sealable();
    let mut disk = open(&path).unwrap();
    disk.write_at(0, &[1; 512]).unwrap();
    disk.flush().unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).unwrap();
    let error = disk.write_at(0, &[2; 512]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "what this host says: {error}");
    assert_eq!(read(&mut disk, 0), [1; 8]);
}

#[test]
fn a_host_without_room_is_an_error() {
    let (file, path) = sealable();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
    let mut disk = open(&path).unwrap();
    let error = disk.write_at(0, &[1; 512]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "what this host says: {error}");
    assert_eq!(read(&mut disk, 0), [0; 8]);
}
