//! `purlin demo`.

use clap::Args;
use hypervisor::kvm::Kvm;
use purlin_vmm::{demo, status::ExitStatus};

use crate::{Failure, Outcome, output};

/// Run a guest that is built in, and tell what happened
///
/// It needs nothing but KVM and takes about a second.
#[derive(Debug, Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn execute(self) -> Outcome {
        let kvm = Kvm::open().map_err(Failure::run)?;
        let report = demo::run(&kvm).map_err(Failure::run)?;
        output::print(report.to_string(), ExitStatus::Done)
    }
}
