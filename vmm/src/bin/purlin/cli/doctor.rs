//! `purlin doctor`.

use clap::Args;
use purlin_vmm::{
    doctor::{self, Host},
    status::ExitStatus,
};

use crate::{Failure, Outcome, output};

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
        let report = doctor::examine(&Host::default());
        let status = if report.can_run { ExitStatus::Done } else { ExitStatus::Failed };
        if self.json {
            let json = serde_json::to_string_pretty(&report).map_err(Failure::run)?;
            output::print(json + "\n", status)
        } else {
            output::print(report.to_string(), status)
        }
    }
}
