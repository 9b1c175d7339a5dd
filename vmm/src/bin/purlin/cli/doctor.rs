//! `purlin doctor`.

use std::io::{self, Write};

use clap::Args;
use purlin_vmm::{doctor, status::ExitStatus};

use crate::{Failure, Outcome};

/// Tell what this host can do for guests, and how to get what is missing
///
/// Nothing is changed. The exit status is 0 if a guest can run, else 4.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn execute(self) -> Outcome {
        let report = doctor::examine(&doctor::Host::default());
        let text = if self.json {
            serde_json::to_string_pretty(&report).map_err(Failure::run)? + "\n"
        } else {
            report.to_string()
        };
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::run(error)),
            _ if report.can_run => Ok(ExitStatus::Done),
            _ => Ok(ExitStatus::Failed),
        }
    }
}
