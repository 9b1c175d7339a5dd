//! The content of files.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::guest::{
    COPY_FILE_RANGE, Directory, EINVAL, EOPNOTSUPP, ESTALE, FALLOCATE, FLUSH, FSYNC, GETATTR,
    LSEEK, O_RDWR, O_TRUNC, O_WRONLY, OPEN, RELEASE, ROOT, SETATTR, STATFS, SYNCFS, UNLINK, WRITE,
    c, u32_at, u32s, u64_at, u64s,
};

#[test]
fn a_file_is_read_in_pieces_to_its_end() {
    let directory = Directory::new();
    let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).take(150_001).collect();
    directory.write("file", &text);
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    let handle = guest.open(node, 0).unwrap();
    let mut read = Vec::new();
    loop {
        let offset = u64::try_from(read.len()).unwrap();
        let piece = guest.read(handle, offset, 0xfff1).unwrap();
        if piece.is_empty() {
            break;
        }
        read.extend(piece);
    }
    assert!(read == text);
    assert_eq!(guest.read(handle, u64::MAX, 1), Err(EINVAL));
    guest.ask(RELEASE, node, &[u64s([handle, 0, 0])]).unwrap();
    assert_eq!(guest.read(handle, 0, 1), Err(ESTALE));
}

#[test]
fn writing_goes_where_the_guest_says() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    let (node, handle) = guest.create(ROOT, "file", 0o644).unwrap();
    assert_eq!(guest.write(handle, 3, b"world"), Ok(5));
    assert_eq!(guest.write(handle, 0, b"abc"), Ok(3));
    assert_eq!(directory.read("file"), b"abcworld");
    // O_APPEND
    let handle = guest.open(node, O_WRONLY | 0o2000).unwrap();
    assert_eq!(guest.write(handle, 0, b"X"), Ok(1));
    assert_eq!(directory.read("file"), b"Xbcworld");
    guest.ask(FSYNC, node, &[u64s([handle]), u32s([0, 0])]).unwrap();
    guest.ask(FSYNC, node, &[u64s([handle]), u32s([1, 0])]).unwrap();
    guest.ask(FLUSH, node, &[u64s([handle, 0, 0])]).unwrap();
    guest.ask(SYNCFS, ROOT, &[u64s([0])]).unwrap();
}

#[test]
fn a_write_that_lies_about_its_size_is_refused() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    let (node, handle) = guest.create(ROOT, "file", 0o644).unwrap();
    for size in [6, u32::MAX, (1 << 20) + 1] {
        let body = [u64s([handle, 0]), u32s([size, 0]), u64s([0, 0]), b"12345".to_vec()];
        assert_eq!(guest.ask(WRITE, node, &body), Err(EINVAL));
    }
    assert_eq!(directory.read("file"), b"");
    assert_eq!(guest.write(handle, u64::MAX, b"1"), Err(EINVAL));
}

#[test]
fn a_file_opened_to_be_truncated_is_empty() {
    let directory = Directory::new();
    directory.write("file", "text");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    guest.ask(OPEN, node, &[u32s([O_RDWR | O_TRUNC, 0])]).unwrap();
    assert_eq!(directory.read("file"), b"");
}

#[test]
fn size_mode_and_times_are_set() {
    let directory = Directory::new();
    directory.write("file", "text");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    let body = [
        u32s([1 | 1 << 3 | 1 << 4 | 1 << 5, 0]),
        u64s([0, 9, 0, 1, 2, 3]),
        u32s([0, 5, 0, 0o4705, 0, 0, 0, 0]),
    ];
    guest.ask(SETATTR, node, &body).unwrap();
    let metadata = fs::metadata(directory.path("file")).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode()), (9, 0o104_705));
    let modified = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!((modified.as_secs(), modified.subsec_nanos()), (2, 5));
    // By handle, of a file without a name.
    let handle = guest.open(node, O_RDWR).unwrap();
    guest.ask(UNLINK, ROOT, &[c("file")]).unwrap();
    let body = [u32s([1 << 3 | 1 << 6, 0]), u64s([handle, 2, 0, 0, 0, 0]), vec![0; 32]];
    guest.ask(SETATTR, node, &body).unwrap();
    let answer = guest.ask(GETATTR, node, &[u32s([1, 0]), u64s([handle])]).unwrap();
    assert_eq!(u64_at(&answer, 24), 2);
}

#[test]
fn privileges_end_when_somebody_without_them_writes() {
    let directory = Directory::new();
    directory.write("file", "text");
    let path = directory.path("file");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    let handle = guest.open(node, O_RDWR).unwrap();
    let set = || fs::set_permissions(&path, fs::Permissions::from_mode(0o6775)).unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    set();
    let body = [u64s([handle, 0]), u32s([1, 1 << 2]), u64s([0, 0]), b"1".to_vec()];
    guest.ask(WRITE, node, &body).unwrap();
    assert_eq!(mode(), 0o775);
    set();
    let size = [u32s([1 << 3 | 1 << 11, 0]), vec![0; 80]];
    guest.ask(SETATTR, node, &size).unwrap();
    assert_eq!(mode(), 0o775);
    set();
    guest.ask(OPEN, node, &[u32s([O_RDWR | O_TRUNC, 1])]).unwrap();
    assert_eq!(mode(), 0o775);
}

#[test]
fn holes_are_made_and_found() {
    let directory = Directory::new();
    directory.write("file", vec![1; 256 << 10]);
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    let handle = guest.open(node, O_RDWR).unwrap();
    let punch = [u64s([handle, 64 << 10, 64 << 10]), u32s([3, 0])];
    guest.ask(FALLOCATE, node, &punch).unwrap();
    assert_eq!(guest.read(handle, 64 << 10, 1).unwrap(), [0]);
    let mut seek = |offset, whence| {
        guest
            .ask(LSEEK, node, &[u64s([handle, offset]), u32s([whence, 0])])
            .map(|answer| u64_at(&answer, 0))
    };
    assert_eq!(seek(0, 4), Ok(64 << 10));
    assert_eq!(seek(64 << 10, 3), Ok(128 << 10));
    assert_eq!(seek(0, 0), Err(EINVAL));
    let unknown = [u64s([handle, 0, 1]), u32s([1 << 20, 0])];
    assert_eq!(guest.ask(FALLOCATE, node, &unknown), Err(EOPNOTSUPP));
}

#[test]
fn the_host_copies_from_file_to_file() {
    let directory = Directory::new();
    directory.write("from", "0123456789");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "from").unwrap();
    let from = guest.open(node, 0).unwrap();
    let (_, to) = guest.create(ROOT, "to", 0o644).unwrap();
    let body = [u64s([from, 2, 0, to, 1, u64::MAX, 0])];
    let answer = guest.ask(COPY_FILE_RANGE, node, &body).unwrap();
    assert_eq!(u32_at(&answer, 0), 8);
    assert_eq!(directory.read("to"), b"\x0023456789");
}

#[test]
fn the_file_system_tells_its_size() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    let answer = guest.ask(STATFS, ROOT, &[]).unwrap();
    assert_eq!(answer.len(), 80);
    assert!(u64_at(&answer, 0) > 0 && u32_at(&answer, 44) == 255);
}
