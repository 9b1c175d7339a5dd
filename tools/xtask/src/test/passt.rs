//! A passt that is a vhost-user back end for network cards: this machine's own if it can be one, else
//! that of Debian 13, with the C library that it was built for.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use super::TOPIC;
use crate::{
    apt,
    error::{AtPath, Error, Result},
    workspace::{Workspace, run, say},
};

/// The option that the passt of Debian 12 has not.
const OPTION: &str = "--vhost-user";
/// The release that has it.
const SUITE: &str = "trixie";
const PACKAGES: [&str; 2] = ["passt", "libc6"];
/// With what Debian's archives are signed.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Runs it by its own loader, from wherever this is.
const LAUNCHER: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/usr/lib64/ld-linux-x86-64.so.2" --library-path "$here/usr/lib/x86_64-linux-gnu" \
    "$here/usr/bin/passt" "$@"
"#;

/// The program, fetched if need be.
pub(super) fn program(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(own) = apt::locate("passt").filter(|own| is_backend(own)) {
        return Ok(own);
    }
    let place = workspace.cached(&format!("unpacked/passt-{SUITE}"), make)?;
    let program = place.join("passt");
    if is_backend(&program) {
        return Ok(program);
    }
    Err(Error::new(format!("the passt of Debian's {SUITE} does not run here")))
}

fn is_backend(program: &Path) -> bool {
    // It says what it knows on either stream, and that it has failed.
    let output = Command::new(program).arg("--help").output();
    output.is_ok_and(|said| {
        [said.stdout, said.stderr].iter().any(|said| String::from_utf8_lossy(said).contains(OPTION))
    })
}

fn make(dir: &Path) -> Result<()> {
    say(TOPIC, &format!("fetching the passt of Debian's {SUITE} (apt-get download)"));
    let state = dir.join("apt");
    let lists = state.join("lists/partial");
    fs::create_dir_all(&lists).at("create", &lists)?;
    let sources = state.join("sources.list");
    fs::write(&sources, source(&mirror()?)).at("write", &sources)?;
    apt::unpack_from(&state, &PACKAGES, dir)?;
    fs::remove_dir_all(&state).at("remove", &state)?;
    let launcher = dir.join("passt");
    fs::write(&launcher, LAUNCHER).at("write", &launcher)?;
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).at("make", &launcher)
}

/// Where this machine has its own Debian packages from.
fn mirror() -> Result<String> {
    let filter = ["Created-By: Packages", "Label: Debian", "Component: main"];
    let list = ["indextargets", "--format", "$(REPO_URI)"];
    let listed = run(Command::new("apt-get").args(list).args(filter))?;
    let listed = String::from_utf8_lossy(&listed);
    let first = listed.lines().next().map(str::to_owned);
    first.ok_or_else(|| Error::new("apt has no package list of Debian's (`apt-get update`)"))
}

/// The line of a sources.list.
fn source(mirror: &str) -> String {
    let signed =
        if Path::new(KEYS).exists() { format!("[signed-by={KEYS}] ") } else { String::new() };
    format!("deb {signed}{mirror} {SUITE} main\n")
}

/// Has `name` point to the program; if there is none, nothing is there, and who wants it says why.
pub(super) fn link(workspace: &Workspace, name: &Path) -> Result<()> {
    if fs::symlink_metadata(name).is_ok() {
        fs::remove_file(name).at("remove", name)?;
    }
    match program(workspace) {
        Ok(program) => symlink(program, name).at("create", name),
        Err(error) => {
            say(TOPIC, &format!("no passt with {OPTION}, so none is tested: {error}"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_the_option_is_no_back_end() {
        assert!(!is_backend(Path::new("/bin/true")));
        assert!(!is_backend(Path::new("/nonexistent/passt")));
    }

    #[test]
    fn the_suite_is_asked_for_at_the_mirror_that_is_there() {
        let line = source("http://debian.example/debian/");
        assert!(line.starts_with("deb "), "{line}");
        assert!(line.ends_with("http://debian.example/debian/ trixie main\n"), "{line}");
    }
}
