//! Images that are gone after the test.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A good size.
pub(crate) const LEN: u64 = 4 << 20;

/// A sparse file.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// One of `len` bytes.
    pub(crate) fn new(len: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pmem-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        File::create_new(&path).unwrap().set_len(len).unwrap();
        Self(path)
    }

    /// Makes the file `len` bytes long, as anyone on the host may.
    pub(crate) fn cut(&self, len: u64) {
        File::options().write(true).open(&self.0).unwrap().set_len(len).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
