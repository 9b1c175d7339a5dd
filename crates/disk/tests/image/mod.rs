//! qcow2 images, made byte by byte.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use purlin_disk::{Access, Backing, OpenError, Qcow2};

/// Bytes in a cluster.
pub(crate) const CLUSTER: u64 = 1 << 16;
/// Bytes on the disk: a mebibyte.
pub(crate) const LEN: u64 = 1 << 20;
pub(crate) const REFCOUNTS: u64 = CLUSTER;
pub(crate) const BLOCK: u64 = 2 * CLUSTER;
pub(crate) const L1: u64 = 3 * CLUSTER;
/// Fields of the header, by their offsets.
pub(crate) const BACKING_AT: u64 = 8;
pub(crate) const BACKING_LEN: u64 = 16;
pub(crate) const CLUSTER_BITS: u64 = 20;
pub(crate) const SIZE: u64 = 24;
pub(crate) const CRYPT: u64 = 32;
pub(crate) const L1_ENTRIES: u64 = 36;
pub(crate) const L1_AT: u64 = 40;
pub(crate) const REFCOUNTS_AT: u64 = 48;
pub(crate) const REFCOUNTS_LEN: u64 = 56;
pub(crate) const FEATURES: u64 = 72;
pub(crate) const ORDER: u64 = 96;
pub(crate) const HEADER_LEN: u64 = 100;
pub(crate) const EXTENSIONS: u64 = 104;
const NAME: u64 = 512;

/// An image in the making: its bytes.
#[derive(Clone)]
pub(crate) struct Image(pub(crate) Vec<u8>);

impl Image {
    /// An empty disk: header, one table and one block of reference counts, a first-level table.
    pub(crate) fn new() -> Self {
        let mut image = Self(vec![0; usize::try_from(4 * CLUSTER).unwrap()]);
        image.u32(0, 0x5146_49fb).u32(4, 3).u32(CLUSTER_BITS, 16).u64(SIZE, LEN);
        image.u32(L1_ENTRIES, 1).u64(L1_AT, L1);
        image.u64(REFCOUNTS_AT, REFCOUNTS).u32(REFCOUNTS_LEN, 1);
        image.u32(ORDER, 4).u32(HEADER_LEN, 104);
        image.u64(REFCOUNTS, BLOCK);
        for cluster in 0..4 {
            image.bytes(BLOCK + 2 * cluster, &[0, 1]);
        }
        image
    }

    /// The same with clusters of 512 bytes, which are full of tables.
    pub(crate) fn small() -> Self {
        let mut image = Self(vec![0; 4 * 512]);
        image.u32(0, 0x5146_49fb).u32(4, 3).u32(CLUSTER_BITS, 9).u64(SIZE, LEN);
        image.u32(L1_ENTRIES, 32).u64(L1_AT, 3 * 512);
        image.u64(REFCOUNTS_AT, 512).u32(REFCOUNTS_LEN, 1);
        image.u32(ORDER, 4).u32(HEADER_LEN, 104);
        image.u64(512, 2 * 512).bytes(2 * 512, &[0, 1, 0, 1, 0, 1, 0, 1]);
        image
    }

    pub(crate) fn bytes(&mut self, at: u64, bytes: &[u8]) -> &mut Self {
        let at = usize::try_from(at).unwrap();
        self.0.get_mut(at..at + bytes.len()).unwrap().copy_from_slice(bytes);
        self
    }

    pub(crate) fn u32(&mut self, at: u64, value: u32) -> &mut Self {
        self.bytes(at, &value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, at: u64, value: u64) -> &mut Self {
        self.bytes(at, &value.to_be_bytes())
    }

    /// Names an image behind this one, and its format.
    pub(crate) fn backed_by(&mut self, name: &str, format: &str) -> &mut Self {
        let len = u32::try_from(name.len()).unwrap();
        self.u64(BACKING_AT, NAME).u32(BACKING_LEN, len).bytes(NAME, name.as_bytes());
        if !format.is_empty() {
            self.u32(EXTENSIONS, 0xe279_2aca);
            self.u32(EXTENSIONS + 4, u32::try_from(format.len()).unwrap());
            self.bytes(EXTENSIONS + 8, format.as_bytes());
        }
        self
    }
}

/// A directory of a test's own.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(test: &str) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.join(format!("qcow2-{}-{test}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, image: &Image) -> PathBuf {
        fs::write(self.path(name), &image.0).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn open(path: &Path) -> Result<Qcow2, OpenError> {
    Qcow2::open(path, Access::ReadWrite, &Backing::Refused)
}

/// An error and what caused it, as the command line tells it.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
