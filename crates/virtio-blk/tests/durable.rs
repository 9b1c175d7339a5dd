//! What lasts is in the storage when the guest hears of it, and not in the host's page cache alone.
//!
//! Whether a page is still to be written shows in that the host does not let go of it when asked to.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "other tests use the rest")]
mod plain;

use std::{
    fs::File,
    io::{Write, stderr},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use disk::{Access, Raw};
use plain::{FLUSH, Guest, OK, OUT};
use purlin_virtio_blk::{Blk, BlkConfig, Cache, Engine};
use rustix::{
    fs::{Advice, fadvise},
    io::{ReadWriteFlags, preadv2},
};

const LEN: usize = 1 << 20;

struct Image(PathBuf);

impl Image {
    fn new(test: &str) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let image = Self(dir.join(format!("durable-{}-{test}", std::process::id())));
        let mut file = File::create(&image.0).unwrap();
        file.write_all(&[1; LEN]).unwrap();
        file.sync_all().unwrap();
        image
    }

    /// Whether nothing is left to write to storage.
    fn is_clean(&self) -> bool {
        let file = File::open(&self.0).unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let mut byte = [0];
        let mut bytes = [std::io::IoSliceMut::new(&mut byte)];
        // What is not in the page cache would have to be waited for.
        preadv2(&file, &mut bytes, 4096 * 100, ReadWriteFlags::NOWAIT).is_err()
    }

    /// Whether this file system lets go of what is clean, and keeps what is not.
    fn tells(&self) -> bool {
        let file = File::options().write(true).open(&self.0).unwrap();
        // Anyone may flush all that the host has, at any time.
        let kept = (0..9).any(|_| {
            file.write_all_at(&[2; 512], 4096 * 100).unwrap();
            !self.is_clean()
        });
        file.sync_all().unwrap();
        kept && self.is_clean()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a sector, and flushes it if that is asked for.
fn write(image: &Image, (engine, cache): (Engine, Cache), flush: bool) {
    let raw = Raw::open(&image.0, Access::ReadWrite).unwrap();
    let config = BlkConfig { cache, ..BlkConfig::default() };
    let mut guest = Guest::new(Blk::new(raw, config).engine(engine).unwrap());
    guest.put(0, &[7; 512]);
    guest.offer(0, 0, (OUT, 800));
    guest.driver.kick(0);
    guest.wait(0, 1);
    assert_eq!(guest.answer(0).0, OK);
    if flush {
        guest.offer(0, 1, (FLUSH, 0));
        guest.driver.kick(0);
        guest.wait(0, 1);
        assert_eq!(guest.answer(1).0, OK);
    }
}

#[test]
fn an_answered_flush_and_an_answered_write_through_are_in_the_storage() {
    let image = Image::new("flush");
    if !image.tells() {
        let why = "this file system does not tell what is written (tmpfs)";
        return drop(writeln!(
            stderr(),
            "SKIPPED an_answered_flush_and_an_answered_write_through_are_in_the_storage: {why}"
        ));
    }
    for engine in [Engine::Sync, Engine::IoUring] {
        write(&image, (engine, Cache::WriteBack), true);
        assert!(image.is_clean(), "a flush by {engine:?}");
        write(&image, (engine, Cache::WriteThrough), false);
        assert!(image.is_clean(), "written through by {engine:?}");
    }
}
