//! The serial ports.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::Part;

/// The serial ports: `--serial [COM1][,com2=TARGET][,com3=TARGET][,com4=TARGET]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Serial {
    /// Port 0x3f8. Default: `stdio`.
    pub com1: Target,
    /// Port 0x2f8. Default: `none`, as for those that follow.
    pub com2: Target,
    /// Port 0x3e8.
    pub com3: Target,
    /// Port 0x2e8.
    pub com4: Target,
}

impl Default for Serial {
    fn default() -> Self {
        Self { com1: Target::Stdio, com2: Target::None, com3: Target::None, com4: Target::None }
    }
}

impl Part for Serial {
    const MAIN: &'static str = "com1";
}

impl Serial {
    /// The four ports and their names, in order.
    pub fn ports(&self) -> [(&'static str, &Target); 4] {
        [("com1", &self.com1), ("com2", &self.com2), ("com3", &self.com3), ("com4", &self.com4)]
    }

    /// The four targets, to be changed.
    pub(super) fn targets_mut(&mut self) -> [&mut Target; 4] {
        [&mut self.com1, &mut self.com2, &mut self.com3, &mut self.com4]
    }
}

/// The other end of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// `none`: the port is not there.
    #[default]
    None,
    /// `stdio`: standard input and output.
    Stdio,
    /// `pty`: a pseudo-terminal of its own, whose path is told at the start.
    Pty,
    /// `file:PATH` and `append:PATH`: a file that takes the output, made if need be.
    File {
        /// The file.
        path: PathBuf,
        /// Whether what the file holds stays, in front of the output.
        append: bool,
    },
    /// `unix:PATH`: a socket that listens, for one client at a time.
    Unix(PathBuf),
}

impl Target {
    /// The path that the target is at, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } | Self::Unix(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::File { path, .. } | Self::Unix(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Stdio => f.write_str("stdio"),
            Self::Pty => f.write_str("pty"),
            Self::File { path, append: false } => write!(f, "file:{}", path.display()),
            Self::File { path, append: true } => write!(f, "append:{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (kind, path) = text.split_once(':').unwrap_or((&text, ""));
        match (kind, path) {
            ("none", "") => Ok(Self::None),
            ("stdio", "") => Ok(Self::Stdio),
            ("pty", "") => Ok(Self::Pty),
            ("file", path) if !path.is_empty() => {
                Ok(Self::File { path: path.into(), append: false })
            }
            ("append", path) if !path.is_empty() => {
                Ok(Self::File { path: path.into(), append: true })
            }
            ("unix", path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => Err(D::Error::custom(format!(
                "{text:?} is no target; one is none, stdio, pty, file:PATH, append:PATH or unix:PATH"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::word;

    #[test]
    fn every_target_is_read_from_what_it_is_shown_as() {
        for text in ["none", "stdio", "pty", "file:/a,b=c:d", "append:log", "unix:/run/s"] {
            assert_eq!(word::<Target>(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_target_is_answered_with_those_that_are() {
        for text in ["", "stdout", "file:", "file", "pty:/dev/pts/1", "tcp:1"] {
            let error = word::<Target>(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{text:?} is no target; one is none, stdio")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_list_sets_the_ports_that_it_names() {
        let serial = Serial::default().with("com2=file:/tmp/a,,b").unwrap().with("pty").unwrap();
        assert_eq!(serial.com1, Target::Pty);
        assert_eq!(serial.com2.path().unwrap().to_str(), Some("/tmp/a,b"));
        assert_eq!(serial.com3, Target::None);
    }
}
