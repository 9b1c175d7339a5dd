use std::fs::File;

use super::*;

/// What a file system without birth times says of a file: number 7, of this kind.
fn seven(kind: FileType) -> (OwnedFd, Statx) {
    let file = File::open("/dev/null").unwrap();
    let mut stat = stat(&file).unwrap();
    stat.stx_mask &= !StatxFlags::BTIME.bits();
    stat.stx_ino = 7;
    stat.stx_mode = u16::try_from(kind.as_raw_mode()).unwrap() | 0o644;
    (file.into(), stat)
}

#[test]
fn a_number_that_is_used_again_for_another_kind_of_file_is_another_place() {
    let mut inodes = Inodes::new(File::open("/").unwrap().into(), 8).unwrap();
    let (file, stat) = seven(FileType::RegularFile);
    let first = inodes.adopt((ROOT, c"first"), file, &stat).unwrap();
    let (again, stat) = seven(FileType::RegularFile);
    assert_eq!(inodes.adopt((ROOT, c"first"), again, &stat), Ok(first));

    let (fifo, stat) = seven(FileType::Fifo);
    let second = inodes.adopt((ROOT, c"first"), fifo, &stat).unwrap();

    assert_ne!(second, first);
    assert_eq!(inodes.kind(second), Ok(FileType::Fifo));
    assert_eq!(inodes.kind(first), Ok(FileType::RegularFile));
}
