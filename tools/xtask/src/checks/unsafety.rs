//! Unsafe code stays in the modules that are known for it.

use std::{fs, process::ExitCode};

use super::{files, verdict};
use crate::{
    error::{AtPath, Result},
    workspace::Workspace,
};

/// Where unsafe code may be: each place says why in its module documentation.
const ALLOWED: &[&str] = &[
    "crates/disk/src/qcow2/storage.rs",
    "crates/disk/src/uring.rs",
    "crates/hypervisor/src/kvm/",
    "crates/memory/src/advice.rs",
    "crates/memory/src/loss/sys.rs",
    "crates/memory/src/scatter.rs",
    "crates/memory/src/scatter/stretch.rs",
    "crates/memory/src/view.rs",
    "crates/net/src/sys.rs",
    "vmm/src/bin/purlin/code.rs",
    // The floor that the benchmarks measure against: raw ioctls, by intent without our crates.
    "tests/benches/floor/",
];

/// `cargo xtask unsafe`.
pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    let mut findings = Vec::new();
    for name in files(workspace, ".rs")? {
        if ALLOWED.iter().any(|place| name.starts_with(place)) {
            continue;
        }
        let path = workspace.root().join(&name);
        let text = fs::read_to_string(&path).at("read", &path)?;
        let lines = text.lines().enumerate().filter(|(_, line)| lifts_the_ban(line));
        findings.extend(
            lines.map(|(number, _)| {
                format!("{name}:{}: unsafe code is not allowed here", number + 1)
            }),
        );
    }
    verdict("unsafe", &findings)
}

/// The workspace denies unsafe code, so it takes an attribute to have some.
fn lifts_the_ban(line: &str) -> bool {
    let line = line.trim_start();
    let attribute = line.starts_with("#[") || line.starts_with("#![");
    let lint = concat!("unsafe", "_code");
    attribute && line.contains(lint) && (line.contains("expect(") || line.contains("allow("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_lifts_the_ban_is_found() {
        assert!(lifts_the_ban(concat!("#![expect(unsafe", "_code, reason = \"why\")]")));
        assert!(lifts_the_ban(concat!("    #[allow(unsafe", "_code)]")));
        assert!(!lifts_the_ban(concat!("#![forbid(unsafe", "_code)]")));
    }
}
