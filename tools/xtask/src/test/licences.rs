//! Every dependency may be used and passed on with ours.

use std::process::Command;

use serde::Deserialize;

use crate::{
    checks::verdict,
    error::{Context, Result},
    workspace::{Workspace, run, say},
};

/// Licences that ask for no more than ours do.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Checks the licences of all packages, and known advisories where a tool for it is installed.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace.root()).args(["metadata", "--format-version", "1"]);
    let metadata: Metadata = serde_json::from_slice(&run(&mut cargo)?)
        .context(|| "cannot read the output of cargo metadata".to_owned())?;
    let refused = metadata.packages.iter().filter(|package| !usable(package));
    let findings = refused.map(|package| {
        let Package { name, version, license } = package;
        format!("{name} {version} has the licence {license:?}, which is not on our list")
    });
    verdict("licences", &findings.collect::<Vec<_>>())?;
    advisories(workspace)
}

/// Advisories need a database, which not every machine can fetch.
fn advisories(workspace: &Workspace) -> Result<()> {
    let mut deny = Command::new("cargo");
    deny.current_dir(workspace.root());
    deny.args(["deny", "--offline", "check", "--disable-fetch", "advisories"]);
    let installed = Command::new("cargo").args(["deny", "--version"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        say("advisories", "NOT CHECKED: cargo-deny is not installed");
        return Ok(());
    }
    run(&mut deny).map(|_| say("advisories", "ok"))
}

fn usable(package: &Package) -> bool {
    package.license.as_deref().is_some_and(allowed)
}

/// Whether an SPDX expression lets us choose allowed licences only. `OR` binds less than `AND`;
/// parentheses are flattened, which can only refuse more.
fn allowed(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    let known = |licence: &str| ALLOWED.contains(&licence.trim());
    flat.split(" OR ").any(|choice| choice.split(" AND ").all(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_choice_is_enough() {
        assert!(allowed("GPL-3.0-only OR MIT"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("Apache-2.0 AND BSD-3-Clause"));
    }

    #[test]
    fn what_must_be_obeyed_together_must_all_be_allowed() {
        assert!(!allowed("MIT AND GPL-3.0-only"));
        assert!(!allowed("GPL-2.0-only"));
        assert!(!allowed(""));
    }
}
