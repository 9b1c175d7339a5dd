//! Disks.

use std::{num::NonZeroU64, path::PathBuf};

use serde::{Deserialize, Serialize};
use virtio_blk::Blk;

use super::{ConfigError, Part, scalar};

/// A disk: `--disk PATH[,read-only=on][,format=...][,cache=...]...`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Disk {
    /// The image, or a block device of whole sectors of 512 bytes.
    pub path: PathBuf,
    /// Whether the guest may only read. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub read_only: bool,
    /// What the image is. Default: raw, unless it begins as a qcow2 image does, which is refused: the
    /// guest may have written that.
    pub format: Option<Format>,
    /// Which images a qcow2 image may have behind it. Default: off.
    pub backing: Backing,
    /// When what the guest wrote is safe. Default: `writeback`.
    pub cache: Cache,
    /// Whether data goes past the host's page cache. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub direct: bool,
    /// How requests get to the host. Default: `auto`.
    pub engine: Engine,
    /// How many queues the guest has for its requests. Default: 1.
    #[serde(deserialize_with = "scalar::some_count")]
    pub queues: Option<u32>,
    /// Bytes that may be read and written in a second. Default: any number.
    #[serde(deserialize_with = "scalar::rate")]
    pub bytes_per_sec: Option<NonZeroU64>,
    /// The most bytes at once, after a pause. Default: those of one second.
    #[serde(deserialize_with = "scalar::rate")]
    pub bytes_burst: Option<NonZeroU64>,
    /// Requests that may be made in a second. Default: any number.
    #[serde(deserialize_with = "scalar::rate")]
    pub ops_per_sec: Option<NonZeroU64>,
    /// The most requests at once, after a pause. Default: those of one second.
    #[serde(deserialize_with = "scalar::rate")]
    pub ops_burst: Option<NonZeroU64>,
    /// What the guest reads as the disk's serial number, at most 20 bytes. Default: none.
    pub id: String,
}

impl Part for Disk {
    const MAIN: &'static str = "path";
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// The bytes of the disk, one after the other; also a block device.
    Raw,
    /// QEMU's format, of version 2 or 3.
    Qcow2,
}

/// Which images a qcow2 image may have behind it: its own header says which one it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Backing {
    /// `off`: none.
    #[default]
    Off,
    /// `on`: any file of the host.
    On,
    /// A path: this file, or those in this directory.
    In(PathBuf),
}

impl From<String> for Backing {
    fn from(text: String) -> Self {
        match text.as_str() {
            "" | "off" | "false" => Self::Off,
            "on" | "true" => Self::On,
            _ => Self::In(text.into()),
        }
    }
}

impl From<Backing> for String {
    fn from(backing: Backing) -> Self {
        match backing {
            Backing::Off => "off".into(),
            Backing::On => "on".into(),
            Backing::In(path) => path.to_string_lossy().into(),
        }
    }
}

impl Backing {
    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        if let Self::In(path) = self { Some(path) } else { None }
    }
}

/// How requests get to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Engine {
    /// `auto`: by io_uring where that is possible.
    #[default]
    Auto,
    /// `sync`: one after the other.
    Sync,
    /// `io_uring`: many at a time.
    IoUring,
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

impl Disk {
    /// Whether a disk can be like this.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |why: String| Err(ConfigError::Disk { path: self.path.clone(), why });
        let qcow2 = self.format == Some(Format::Qcow2);
        match self.queues {
            Some(count) if count == 0 || count > Blk::QUEUES.into() => {
                return wrong(format!("has queues={count}; it must be 1 to {}", Blk::QUEUES));
            }
            _ => {}
        }
        if self.backing != Backing::Off && !qcow2 {
            return wrong("has backing=, which goes with format=qcow2 only".into());
        }
        if qcow2 && self.engine == Engine::IoUring {
            let why = "has engine=io_uring, which is for raw images; leave it out for format=qcow2";
            return wrong(why.into());
        }
        if qcow2 && self.direct {
            return wrong("has direct=on, which is for raw images; leave it out".into());
        }
        let lone = [
            ("bytes", self.bytes_per_sec.is_none() && self.bytes_burst.is_some()),
            ("ops", self.ops_per_sec.is_none() && self.ops_burst.is_some()),
        ];
        match lone.into_iter().find(|(_, lone)| *lone) {
            Some((what, _)) => wrong(format!("has {what}-burst= without {what}-per-sec=")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_is_a_writable_disk() {
        let disk = Disk::default().with("/images/a=b.img").unwrap();
        assert_eq!(disk, Disk { path: "/images/a=b.img".into(), ..Disk::default() });
        disk.check().unwrap();
    }

    #[test]
    fn every_key_is_read() {
        let list = "a.img,read-only=on,format=qcow2,backing=/base,cache=unsafe,engine=sync,direct=off,\
                    queues=4,bytes-per-sec=1M,bytes-burst=2M,ops-per-sec=100,ops-burst=1,id=data";
        let disk = Disk::default().with(list).unwrap();
        disk.check().unwrap();
        let expected = Disk {
            path: "a.img".into(),
            read_only: true,
            format: Some(Format::Qcow2),
            backing: Backing::In("/base".into()),
            cache: Cache::Unsafe,
            direct: false,
            engine: Engine::Sync,
            queues: Some(4),
            bytes_per_sec: NonZeroU64::new(1 << 20),
            bytes_burst: NonZeroU64::new(2 << 20),
            ops_per_sec: NonZeroU64::new(100),
            ops_burst: NonZeroU64::new(1),
            id: "data".to_owned(),
        };
        assert_eq!(disk, expected);
        // And again from what it says of itself.
        assert_eq!(disk.with("a.img").unwrap(), expected);
    }

    #[test]
    fn words_stand_for_engines_and_backing() {
        let disk = |list: &str| Disk::default().with(list).unwrap();
        assert_eq!(disk("a,engine=io_uring").engine, Engine::IoUring);
        assert_eq!(disk("a,backing=on").backing, Backing::On);
        assert_eq!(disk("a,backing=off").backing, Backing::Off);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_what_is_right() {
        let cases = [
            ("a,queues=0", "the disk a has queues=0; it must be 1 to 32"),
            ("a,queues=33", "the disk a has queues=33; it must be 1 to 32"),
            ("a,backing=on", "goes with format=qcow2 only"),
            ("a,format=raw,backing=/b", "goes with format=qcow2 only"),
            ("a,format=qcow2,engine=io_uring", "leave it out for format=qcow2"),
            ("a,format=qcow2,direct=on", "direct=on, which is for raw images"),
            ("a,ops-burst=3", "has ops-burst= without ops-per-sec="),
            ("a,bytes-burst=3", "has bytes-burst= without bytes-per-sec="),
        ];
        for (list, expected) in cases {
            let error = Disk::default().with(list).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error} has no {expected}");
        }
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_nearest() {
        for (list, nearest) in [
            ("a.img,cache=writeblack", "did you mean `writeback`"),
            ("a.img,format=qcow", "did you mean `qcow2`"),
            ("a.img,engine=iouring", "did you mean `io_uring`"),
            ("a.img,ops-per-sec=0", "a rate of 0"),
        ] {
            let error = Disk::default().with(list).unwrap_err().to_string();
            assert!(error.contains(nearest), "{error}");
        }
    }
}
