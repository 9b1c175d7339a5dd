//! What holds for the whole tree, checked by reading it: layers, sizes, unsafe code, listings.

pub(crate) mod layers;
pub(crate) mod listings;
pub(crate) mod sizes;
pub(crate) mod unsafety;

use std::process::{Command, ExitCode};

use crate::{
    error::{Error, Result},
    workspace::{Workspace, run, say},
};

/// Ends a check: its findings, or that there are none.
pub(crate) fn verdict(check: &str, findings: &[String]) -> Result<ExitCode> {
    if findings.is_empty() {
        say(check, "ok");
        return Ok(ExitCode::SUCCESS);
    }
    for finding in findings {
        say(check, finding);
    }
    Err(Error::new(format!("{check}: {} findings", findings.len())))
}

/// The files that git knows or would take, by their ending.
pub(crate) fn files(workspace: &Workspace, ending: &str) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(workspace.root());
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--"]);
    let listed = run(git.arg(format!("*{ending}")))?;
    let names = String::from_utf8_lossy(&listed);
    let exists = |name: &&str| workspace.root().join(name).is_file();
    Ok(names.lines().filter(exists).map(str::to_owned).collect())
}
