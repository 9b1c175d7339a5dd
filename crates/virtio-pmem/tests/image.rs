//! What a file is to memory, and memory to the file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::{fs::File, os::unix::fs::FileExt};

use arch::Layout;
use disk::{Access, OpenError};
use memory::{Backing, Bytes, GuestAddress, Ram};
use purlin_virtio_pmem::{Image, ImageError};
use scratch::{LEN, Scratch};

/// RAM with `image` beside it, and where that is.
fn ram(image: &Image) -> (Ram, GuestAddress) {
    let mut layout = Layout::for_ram(64 << 10).unwrap();
    let range = layout.add(image.len()).unwrap();
    let ram = Ram::new(&layout.ram, Backing::Anonymous).unwrap();
    (ram.with(range, image.backing().unwrap()).unwrap(), range.0)
}

fn byte_of(scratch: &Scratch, at: u64) -> u8 {
    let mut byte = [0];
    File::open(&scratch.0).unwrap().read_exact_at(&mut byte, at).unwrap();
    byte[0]
}

#[test]
fn what_is_written_to_memory_is_in_the_file() {
    let scratch = Scratch::new(LEN);
    let (ram, start) = ram(&Image::open(&scratch.0, Access::ReadWrite).unwrap());
    ram.memory().write_obj(7_u8, GuestAddress(start.0 + LEN - 1)).unwrap();
    assert_eq!(byte_of(&scratch, LEN - 1), 7);
    assert!(ram.memory().write_obj(7_u8, GuestAddress(start.0 + LEN)).is_err());
}

#[test]
fn a_file_that_is_only_read_is_never_changed() {
    let scratch = Scratch::new(LEN);
    let image = Image::open(&scratch.0, Access::ReadOnly).unwrap();
    assert!(image.is_read_only());
    let (ram, start) = ram(&image);
    ram.memory().write_obj(7_u8, start).unwrap();
    assert_eq!(ram.memory().read_obj::<u8>(start).unwrap(), 7);
    assert_eq!(byte_of(&scratch, 0), 0);
}

#[test]
fn an_image_is_locked_as_long_as_memory_is_made_of_it() {
    let scratch = Scratch::new(LEN);
    let image = Image::open(&scratch.0, Access::ReadWrite).unwrap();
    let (ram, _) = ram(&image);
    drop(image);
    let error = Image::open(&scratch.0, Access::ReadOnly).unwrap_err();
    assert!(matches!(error, ImageError::Open(OpenError::Locked { .. })), "{error}");
    drop(ram);
    let first = Image::open(&scratch.0, Access::ReadOnly).unwrap();
    let second = Image::open(&scratch.0, Access::ReadOnly).unwrap();
    assert_eq!((first.len(), second.len()), (LEN, LEN));
}

#[test]
fn a_size_that_guests_cannot_map_is_refused_with_one_that_they_can() {
    let scratch = Scratch::new(LEN + 512);
    let error = Image::open(&scratch.0, Access::ReadWrite).unwrap_err().to_string();
    assert!(error.contains("has 4194816 bytes; it must be a multiple of 2 MiB"), "{error}");
    assert!(error.contains("up to 6291456 bytes"), "{error}");
    scratch.cut(6_291_456);
    assert_eq!(Image::open(&scratch.0, Access::ReadWrite).unwrap().len(), 6_291_456);
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    for path in ["/no/such/file", "/dev/null", "/"] {
        let error = Image::open(path, Access::ReadWrite).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");
    }
    let empty = Scratch::new(0);
    assert!(Image::open(&empty.0, Access::ReadWrite).is_err());
}
