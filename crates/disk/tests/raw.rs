//! Raw images on a real file system.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt, symlink},
    path::PathBuf,
    process,
};

use purlin_disk::{Access, Disk, OpenError, Raw};

const LEN: usize = 1 << 20;

/// A directory of a test's own, with an image of a mebibyte of ones.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.join(format!("disk-{}-{test}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("image"), vec![1; LEN]).unwrap();
        Self(dir)
    }

    fn image(&self) -> PathBuf {
        self.0.join("image")
    }

    fn open(&self) -> Raw {
        Raw::open(self.image(), Access::ReadWrite).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(disk: &mut Raw, offset: u64) -> io::Result<[u8; 8]> {
    let mut bytes = [0; 8];
    disk.read_at(offset, &mut bytes).map(|()| bytes)
}

#[test]
fn what_is_written_is_read_and_is_in_the_file() {
    let scratch = Scratch::new("write");
    let mut disk = scratch.open();
    assert_eq!((disk.len(), disk.is_read_only()), (1 << 20, false));
    disk.write_at(4094, b"abcdefgh").unwrap();
    disk.flush().unwrap();
    assert_eq!(&read(&mut disk, 4094).unwrap(), b"abcdefgh");
    assert_eq!(&fs::read(scratch.image()).unwrap()[4090..4096], b"\x01\x01\x01\x01ab");
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    let scratch = Scratch::new("read-only");
    let mut disk = Raw::open(scratch.image(), Access::ReadOnly).unwrap();
    assert!(disk.is_read_only());
    let refused = [
        disk.write_at(0, &[2]),
        disk.discard(0, 4096),
        disk.write_zeroes(0, 4096, true),
        disk.write_zeroes(0, 4096, false),
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    disk.flush().unwrap();
    assert_eq!(fs::read(scratch.image()).unwrap(), vec![1; LEN]);
}

#[test]
fn nothing_is_beyond_the_end_and_nothing_makes_the_file_grow() {
    let scratch = Scratch::new("end");
    let mut disk = scratch.open();
    for offset in [(1 << 20) - 7, 1 << 20, i64::MAX.unsigned_abs(), u64::MAX - 7, u64::MAX] {
        let refused = [
            read(&mut disk, offset).map(drop),
            disk.write_at(offset, &[2; 8]),
            disk.discard(offset, 8),
            disk.write_zeroes(offset, 8, false),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput, "at {offset:#x}");
        }
    }
    assert_eq!(disk.len(), 1 << 20);
    assert_eq!(fs::read(scratch.image()).unwrap(), vec![1; LEN]);
}

#[test]
fn an_image_cut_short_is_an_error_and_not_zeroes() {
    let scratch = Scratch::new("cut");
    let mut disk = scratch.open();
    OpenOptions::new().write(true).open(scratch.image()).unwrap().set_len(4096).unwrap();
    assert_eq!(read(&mut disk, 0).unwrap(), [1; 8]);
    assert_eq!(read(&mut disk, 8192).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    disk.write_at(16 << 10, &[3; 8]).unwrap();
    assert_eq!(read(&mut disk, 16 << 10).unwrap(), [3; 8]);
}

#[test]
fn the_size_changes_when_it_is_looked_at_again_and_not_before() {
    let scratch = Scratch::new("refresh");
    let mut disk = scratch.open();
    let file = OpenOptions::new().write(true).open(scratch.image()).unwrap();
    file.set_len((2 << 20) + 100).unwrap();
    assert_eq!(disk.len(), 1 << 20);
    assert_eq!(disk.refresh().unwrap(), 2 << 20);
    assert_eq!((disk.len(), read(&mut disk, (2 << 20) - 8).unwrap()), (2 << 20, [0; 8]));
    file.set_len(4096).unwrap();
    assert_eq!(disk.refresh().unwrap(), 4096);
    assert_eq!(read(&mut disk, 4096).unwrap_err().kind(), ErrorKind::InvalidInput);
    file.set_len(511).unwrap();
    assert!(disk.refresh().is_err());
    assert_eq!(disk.len(), 4096);
}

#[test]
fn past_the_page_cache_everything_is_as_it_was() {
    let scratch = Scratch::new("direct");
    let mut disk = match scratch.open().direct() {
        Ok(disk) => disk,
        // tmpfs, of before Linux 6.6
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    };
    assert!(disk.file().unwrap().align.is_power_of_two());
    let mut expected = vec![1; LEN];
    for (offset, len) in [(0, 512), (100, 8), (4094, 10), (8192, 200 << 10), (LEN - 3, 3)] {
        let data: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        disk.write_at(u64::try_from(offset).unwrap(), &data).unwrap();
        expected[offset..offset + len].copy_from_slice(&data);
        let mut found = vec![0; len];
        disk.read_at(u64::try_from(offset).unwrap(), &mut found).unwrap();
        assert!(found == data, "at {offset}");
    }
    disk.write_zeroes(300 << 10, 1000, false).unwrap();
    expected[300 << 10..][..1000].fill(0);
    disk.flush().unwrap();
    assert!(fs::read(scratch.image()).unwrap() == expected);
    assert!(disk.read_at(u64::MAX, &mut [0]).is_err());
}

#[test]
fn one_writer_or_many_readers() {
    let scratch = Scratch::new("lock");
    let open = |access| Raw::open(scratch.image(), access);
    let writer = open(Access::ReadWrite).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let error = open(access).unwrap_err();
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        assert!(error.to_string().contains(scratch.image().to_str().unwrap()), "{error}");
        assert!(error.to_string().contains("QEMU"), "{error}");
    }
    // Another look at the file does not end the lock, as it would end one by `F_SETLK`.
    drop(File::open(scratch.image()).unwrap());
    assert!(open(Access::ReadOnly).is_err());
    drop(writer);
    let readers = [open(Access::ReadOnly).unwrap(), open(Access::ReadOnly).unwrap()];
    assert!(matches!(open(Access::ReadWrite), Err(OpenError::Locked { .. })));
    drop(readers);
    open(Access::ReadWrite).unwrap();
}

#[test]
fn discarded_room_goes_back_to_the_host() {
    let scratch = Scratch::new("discard");
    let mut disk = scratch.open();
    disk.flush().unwrap();
    let blocks = || fs::metadata(scratch.image()).unwrap().blocks();
    let before = blocks();
    disk.discard(64 << 10, 512 << 10).unwrap();
    assert_eq!(before - blocks(), (512 << 10) / 512);
    assert_eq!(read(&mut disk, (64 << 10) - 8).unwrap(), [1; 8]);
    assert_eq!(read(&mut disk, 64 << 10).unwrap(), [0; 8]);
    assert_eq!(fs::metadata(scratch.image()).unwrap().len(), 1 << 20);
}

#[test]
fn zeroes_are_where_they_were_asked_for_and_nowhere_else() {
    for unmap in [false, true] {
        let scratch = Scratch::new(if unmap { "zeroes-unmap" } else { "zeroes" });
        let mut disk = scratch.open();
        disk.write_zeroes(512, 100 << 10, unmap).unwrap();
        disk.write_zeroes(1 << 19, 0, unmap).unwrap();
        let mut expected = vec![1; LEN];
        expected[512..512 + (100 << 10)].fill(0);
        assert_eq!(fs::read(scratch.image()).unwrap(), expected);
    }
}

#[test]
fn images_of_impossible_sizes_are_refused() {
    let scratch = Scratch::new("size");
    for len in [0, 511, 513, LEN + 1] {
        let path = scratch.0.join(len.to_string());
        fs::write(&path, vec![0; len]).unwrap();
        let error = Raw::open(&path, Access::ReadOnly).unwrap_err();
        assert!(matches!(error, OpenError::Size { .. }), "{error}");
        assert!(error.to_string().contains(&format!("has {len} bytes")), "{error}");
    }
}

#[test]
fn a_qcow2_image_of_no_whole_sectors_is_called_that() {
    let scratch = Scratch::new("size-of-qcow2");
    fs::write(scratch.image(), b"QFI\xfband more").unwrap();
    let error = Raw::open(scratch.image(), Access::ReadOnly).unwrap_err();
    assert!(matches!(error, OpenError::Qcow2 { len: 12, .. }), "{error}");
}

#[test]
fn an_image_that_can_only_be_read_is_refused_with_what_is_right() {
    // What is being run cannot be written, not even by root.
    let own = std::env::current_exe().unwrap();
    let error = Raw::open(&own, Access::ReadWrite).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("open it read-only"), "{error}");
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let scratch = Scratch::new("kind");
    for path in [scratch.0.clone(), "/dev/null".into(), "/dev/full".into()] {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let error = Raw::open(&path, access).unwrap_err();
            assert!(matches!(error, OpenError::Kind { .. }), "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }
    let missing = scratch.0.join("missing");
    let error = Raw::open(&missing, Access::ReadWrite).unwrap_err();
    assert!(matches!(error, OpenError::Open { .. }), "{error}");
    symlink(&missing, scratch.0.join("link")).unwrap();
    assert!(Raw::open(scratch.0.join("link"), Access::ReadWrite).is_err());
}

#[test]
fn a_hole_is_zeroes_that_take_no_room() {
    let scratch = Scratch::new("hole");
    let file = File::create(scratch.0.join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"last one", (1 << 40) - 8).unwrap();
    let mut disk = Raw::open(scratch.0.join("sparse"), Access::ReadWrite).unwrap();
    assert_eq!(disk.len(), 1 << 40);
    assert_eq!(&read(&mut disk, (1 << 40) - 8).unwrap(), b"last one");
    assert_eq!(read(&mut disk, 1 << 39).unwrap(), [0; 8]);
}
