//! Building, and where what was built is.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{
    error::{Context, Error, Result},
    workspace::Workspace,
};

/// One line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs `cargo ARGUMENTS` (a build, or a test with `--no-run`); the executables it made, by the name
/// of their target.
pub(crate) fn build(workspace: &Workspace, arguments: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).arg("--message-format=json-render-diagnostics");
    let output = cargo
        .current_dir(workspace.root())
        .stderr(Stdio::inherit())
        .output()
        .context(|| "cannot run cargo".to_owned())?;
    if !output.status.success() {
        return Err(Error::new(format!("cargo {} failed", arguments.join(" "))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    Ok(messages.filter_map(|message| Some((message.target?.name, message.executable?))).collect())
}

/// Builds the `purlin` binary in release.
pub(crate) fn purlin(workspace: &Workspace) -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", "purlin-vmm", "--bin", "purlin"];
    let built = build(workspace, &arguments)?.into_iter().find(|(name, _)| name == "purlin");
    Ok(built.ok_or_else(|| Error::new("cargo built no binary called purlin"))?.1)
}
