//! Memory that the machine can gain.

use serde::{Deserialize, Serialize};

use super::{Part, Size};

/// How far a running machine's memory can grow: `--memory-max SIZE[,requested=SIZE]`. Both sizes are
/// those of all its memory, with what it starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct MemoryMax {
    /// The most that there can be. Default: what the machine starts with.
    pub size: Option<Size>,
    /// How much the guest is asked to have from the start on. Default: what the machine starts with.
    pub requested: Option<Size>,
}

impl Part for MemoryMax {
    const MAIN: &'static str = "size";
}

/// The unit in which memory grows and shrinks, bytes.
pub const MEMORY_STEP: u64 = virtio_mem::BLOCK;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_alone_is_the_most_that_there_can_be() {
        let max = MemoryMax::default().with("4G").unwrap();
        assert_eq!(max, MemoryMax { size: Some(Size(4 << 30)), requested: None });
    }

    #[test]
    fn the_rest_is_kept_when_one_is_set_anew() {
        let max = MemoryMax::default().with("4G,requested=1G").unwrap().with("8G").unwrap();
        let expected = MemoryMax { size: Some(Size(8 << 30)), requested: Some(Size(1 << 30)) };
        assert_eq!(max, expected);
    }
}
