//! Directories of the host, and a command that runs in one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Part, scalar};

/// A directory that the guest can mount: `--fs DIR,tag=NAME[,read-only=on][,cache=...]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Fs {
    /// The directory.
    pub path: PathBuf,
    /// The name by which the guest mounts it, 1 to 36 bytes. Default: `share`.
    pub tag: String,
    /// Whether the guest may only read. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub read_only: bool,
    /// How long the guest may trust what it has read. Default: `auto`.
    pub cache: FsCache,
}

impl Part for Fs {
    const MAIN: &'static str = "path";
}

impl Default for Fs {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            tag: "share".into(),
            read_only: false,
            cache: FsCache::default(),
        }
    }
}

/// A directory that is the guest's root: `--root DIR[,read-only=on][,cache=...]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Root {
    /// The directory.
    pub path: PathBuf,
    /// Whether the guest may only read. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub read_only: bool,
    /// How long the guest may trust what it has read. Default: `auto`.
    pub cache: FsCache,
}

impl Part for Root {
    const MAIN: &'static str = "path";
}

/// How long the guest may trust what it has read of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FsCache {
    /// `auto`: names and attributes for a second, content until they change.
    #[default]
    Auto,
    /// `always`: for a day. For directories that nobody else writes to.
    Always,
    /// `none`: not at all.
    None,
}

impl Config {
    /// The tag of the directory that is the guest's root.
    pub(crate) const ROOT_TAG: &'static str = "purlin-root";

    pub(super) fn check_fs(&self) -> Result<(), ConfigError> {
        for (index, fs) in self.fs.iter().enumerate() {
            fs.tag.parse::<virtio_fs::Tag>()?;
            let before = self.fs.iter().take(index).map(|fs| fs.tag.as_str());
            let root = self.root.iter().map(|_| Self::ROOT_TAG);
            if before.chain(root).any(|tag| tag == fs.tag) {
                return Err(ConfigError::Tag(fs.tag.clone()));
            }
        }
        match (&self.root, self.command.as_slice()) {
            (None, [_, ..]) => Err(ConfigError::NoRoot),
            (_, command) if command.iter().any(|word| word.contains('\0')) => {
                Err(ConfigError::Command)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_is_writable_and_has_a_tag() {
        let fs = Fs::default().with("/srv/a=b").unwrap();
        assert_eq!(fs, Fs { path: "/srv/a=b".into(), ..Fs::default() });
        assert_eq!(fs.tag, "share");
    }

    #[test]
    fn every_key_is_read() {
        let fs = Fs::default().with("a,tag=src,read-only=on,cache=none").unwrap();
        let tag = "src".to_owned();
        assert_eq!(fs, Fs { path: "a".into(), tag, read_only: true, cache: FsCache::None });
        let root = Root::default().with("a,read-only=on,cache=always").unwrap();
        let cache = FsCache::Always;
        assert_eq!(root, Root { path: "a".into(), read_only: true, cache });
    }

    #[test]
    fn a_wrong_cache_is_answered_with_the_nearest() {
        let error = Fs::default().with("a,cache=alway").unwrap_err().to_string();
        assert!(error.contains("did you mean `always`"), "{error}");
    }

    fn refusal(fs: &[&str], root: Option<&str>, command: &[&str]) -> Option<String> {
        let config = Config {
            fs: fs.iter().map(|list| Fs::default().with(list).unwrap()).collect(),
            root: root.map(|list| Root::default().with(list).unwrap()),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..Config::default()
        };
        config.check_fs().err().map(|error| error.to_string())
    }

    #[test]
    fn a_tag_is_short_and_different_from_the_others() {
        assert_eq!(refusal(&["a,tag=a", "a,tag=b"], Some("a"), &[]), None);
        let same = refusal(&["a", "b"], None, &[]).unwrap();
        assert!(same.starts_with("two directories have the tag `share`"), "{same}");
        assert!(refusal(&["a,tag=purlin-root"], None, &[]).is_none());
        assert!(refusal(&["a,tag=purlin-root"], Some("b"), &[]).is_some());
        assert!(refusal(&["a,tag="], None, &[]).unwrap().contains("1 to 36 bytes"));
        let long = format!("a,tag={}", "t".repeat(37));
        assert!(refusal(&[&long], None, &[]).unwrap().contains("1 to 36 bytes"));
    }

    #[test]
    fn a_command_needs_a_root() {
        assert_eq!(refusal(&[], Some("a"), &["ls", "-l"]), None);
        let error = refusal(&[], None, &["ls"]).unwrap();
        assert!(error.contains("--root"), "{error}");
    }
}
