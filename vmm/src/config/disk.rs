//! Disks.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Part, scalar};

/// A disk: `--disk PATH[,read-only=on][,cache=...][,id=TEXT]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Disk {
    /// The image: a raw file or a block device of whole sectors of 512 bytes.
    pub path: PathBuf,
    /// Whether the guest may only read. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub read_only: bool,
    /// When what the guest wrote is safe. Default: `writeback`.
    pub cache: Cache,
    /// What the guest reads as the disk's serial number, at most 20 bytes. Default: none.
    pub id: String,
}

impl Part for Disk {
    const MAIN: &'static str = "path";
}

/// When what the guest wrote to a disk would survive a power cut of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Cache {
    /// `writeback`: when the guest has flushed, as with a real disk.
    #[default]
    WriteBack,
    /// `writethrough`: when the write is done.
    WriteThrough,
    /// `unsafe`: when the host gets to it. The guest's flushes do nothing.
    Unsafe,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_is_a_writable_disk() {
        let disk = Disk::default().with("/images/a=b.img").unwrap();
        assert_eq!(disk, Disk { path: "/images/a=b.img".into(), ..Disk::default() });
    }

    #[test]
    fn every_key_is_read() {
        let disk = Disk::default().with("a.img,read-only=on,cache=unsafe,id=data").unwrap();
        let id = "data".to_owned();
        assert_eq!(disk, Disk { path: "a.img".into(), read_only: true, cache: Cache::Unsafe, id });
    }

    #[test]
    fn a_wrong_cache_is_answered_with_the_nearest() {
        let error = Disk::default().with("a.img,cache=writeblack").unwrap_err().to_string();
        assert!(error.contains("did you mean `writeback`"), "{error}");
    }
}
