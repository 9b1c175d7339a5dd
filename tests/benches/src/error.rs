//! Why something could not be measured.

use std::error::Error as StdError;

/// Why something could not be measured: a message, or what the host or Purlin said.
pub(crate) type Error = Box<dyn StdError + Send + Sync>;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// An error and its causes, on one line.
pub(crate) fn chain(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
