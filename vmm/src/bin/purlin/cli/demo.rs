//! `purlin demo`.

use clap::Args;

use crate::{Failure, Outcome};

/// Run a guest that is built in, and tell what happened
///
/// It needs nothing but KVM and takes about a second.
#[derive(Debug, Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn execute(self) -> Outcome {
        // The demo goes here.
        Err(Failure::run("the demo cannot run yet"))
    }
}
