//! Guest RAM.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{Part, Size, scalar};

/// The least RAM that a kernel, loaded at 1 MiB, can start in, bytes.
pub const MIN_MEMORY: u64 = 2 << 20;

/// Guest RAM: `--memory SIZE[,backing=...][,pages=...][,prefault=on]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Memory {
    /// How much. Default: `512M`.
    pub size: Size,
    /// Where its bytes are.
    pub backing: Backing,
    /// The pages that the host backs it with.
    pub pages: Pages,
    /// Whether every page is taken at the start. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub prefault: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            size: Size(512 << 20),
            backing: Backing::default(),
            pages: Pages::default(),
            prefault: false,
        }
    }
}

impl Part for Memory {
    const MAIN: &'static str = "size";
}

/// Where the bytes of guest RAM are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// `auto`: `shared` if another process serves a device ([`VhostUser`](super::VhostUser)), else
    /// `private`.
    #[default]
    Auto,
    /// `private`: memory of this process alone.
    Private,
    /// `shared`: a memfd that other processes can be given.
    Shared,
    /// `file:PATH`: a file, made anew at each boot, shared with whoever maps it.
    File(PathBuf),
}

impl Backing {
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Private => f.write_str("private"),
            Self::Shared => f.write_str("shared"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Serialize for Backing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Backing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            None if text == "auto" => Ok(Self::Auto),
            None if text == "private" => Ok(Self::Private),
            None if text == "shared" => Ok(Self::Shared),
            _ => Err(D::Error::custom(format!(
                "{text:?} is no backing of memory; one is auto, private, shared or file:PATH"
            ))),
        }
    }
}

/// The pages that the host backs guest RAM with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pages {
    /// `default`: transparent huge pages where the host offers them, else ordinary ones.
    #[default]
    Default,
    /// `small`: ordinary pages only.
    Small,
    /// `transparent`: transparent huge pages; a host without them is an error.
    Transparent,
    /// `2M`: reserved huge pages of 2 MiB.
    #[serde(rename = "2M")]
    Huge2M,
    /// `1G`: reserved huge pages of 1 GiB.
    #[serde(rename = "1G")]
    Huge1G,
}

impl From<Pages> for memory::Pages {
    fn from(pages: Pages) -> Self {
        match pages {
            Pages::Default => Self::Default,
            Pages::Small => Self::Small,
            Pages::Transparent => Self::Transparent,
            Pages::Huge2M => Self::Huge2M,
            Pages::Huge1G => Self::Huge1G,
        }
    }
}
