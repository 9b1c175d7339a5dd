//! Virtio consoles.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Part, Target};

/// A port of the virtio console: `--console TARGET[,name=NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Console {
    /// The host's end, as of a serial port.
    pub target: Target,
    /// The name by which programs of the guest open it. Without one it is a terminal of the guest.
    pub name: Option<String>,
}

impl Part for Console {
    const MAIN: &'static str = "target";
}

impl Console {
    /// What messages call port number `index`.
    pub fn label(index: usize) -> &'static str {
        match index {
            0 => "console",
            1 => "the second console",
            2 => "the third console",
            _ => "another console",
        }
    }

    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        self.target.path_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_target_alone_is_a_terminal() {
        let console = Console::default().with("pty").unwrap();
        assert_eq!(console, Console { target: Target::Pty, name: None });
    }

    #[test]
    fn a_name_makes_it_a_port_for_programs() {
        let console = Console::default().with("unix:/run/a=b,name=org.example.0").unwrap();
        assert_eq!(console.target.path(), Some(Path::new("/run/a=b")));
        assert_eq!(console.name.as_deref(), Some("org.example.0"));
    }

    #[test]
    fn what_is_no_target_is_answered_with_those_that_are() {
        let error = Console::default().with("tty,name=x").unwrap_err().to_string();
        assert!(error.contains("\"tty\" is no target; one is none, stdio, pty"), "{error}");
        let error = Console::default().with("pty,nmae=x").unwrap_err().to_string();
        assert!(error.contains("did you mean `name`?"), "{error}");
    }
}
