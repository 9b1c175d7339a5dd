//! Persistent memory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Part, scalar};

/// A file as memory: `--pmem PATH[,read-only=on]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Pmem {
    /// The image: a regular file or block device whose size is a multiple of 2 MiB.
    pub path: PathBuf,
    /// Whether the file is only read: what the guest writes is ignored. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub read_only: bool,
}

impl Part for Pmem {
    const MAIN: &'static str = "path";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_is_written_to() {
        let pmem = Pmem::default().with("/images/a=b.img").unwrap();
        assert_eq!(pmem, Pmem { path: "/images/a=b.img".into(), read_only: false });
    }

    #[test]
    fn a_file_can_be_left_alone() {
        let pmem = Pmem::default().with("a.img,read-only=on").unwrap();
        assert_eq!(pmem, Pmem { path: "a.img".into(), read_only: true });
    }

    #[test]
    fn what_persistent_memory_has_not_is_answered_with_what_it_has() {
        let error = Pmem::default().with("a.img,readonly=on").unwrap_err().to_string();
        assert!(error.contains("did you mean `read-only`"), "{error}");
    }
}
