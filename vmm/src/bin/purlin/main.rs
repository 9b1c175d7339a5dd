//! `purlin`: the reference VMM.

#![deny(unsafe_code)] // allowed in `code` only: see there

mod cli;
mod code;
mod logger;
mod message;
mod output;

use std::{error::Error, process::ExitCode};

use purlin_vmm::status::ExitStatus;

/// What ended the command, and what the process says of it.
type Outcome = Result<ExitStatus, Failure>;

/// A command that failed.
#[derive(Debug)]
struct Failure {
    status: ExitStatus,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// The user asked for what cannot be.
    fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { status: ExitStatus::Usage, error: error.into() }
    }

    /// The host or the VMM failed.
    fn run(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { status: ExitStatus::Failed, error: error.into() }
    }
}

fn main() -> ExitCode {
    match cli::execute() {
        Ok(status) => status.into(),
        Err(Failure { status, error }) => {
            message::tell(&format!("purlin: error: {}\n", chain(&*error)));
            status.into()
        }
    }
}

/// The error and its causes in a line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use purlin_vmm::config::ConfigError;

    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes() {
        let source = io::Error::other("no disk");
        let error = ConfigError::Read { path: "vm.toml".into(), source };
        let told = "the configuration file vm.toml cannot be read: no disk";
        assert_eq!(chain(&error), told);
    }
}
