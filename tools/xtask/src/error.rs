//! One error for all commands: what could not be done, and why.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

/// What could not be done; the cause, if there is one, is its source.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Error {
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a deeper cause.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }
}

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// Puts `what` before the cause.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: StdError + Send + Sync + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error { what: what(), source: Some(Box::new(source)) })
    }
}

/// Puts the path into the message of a failed file operation.
pub(crate) trait AtPath<T> {
    /// `verb` completes "cannot {verb} {path}".
    fn at(self, verb: &str, path: &Path) -> Result<T>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, verb: &str, path: &Path) -> Result<T> {
        self.context(|| format!("cannot {verb} {}", path.display()))
    }
}
