//! What the outer guest is to run: the command, where, as whom, and in which environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid, getgroups};

use super::quote::quote;
use crate::error::{Context, Error, Result};
use crate::initramfs::Initramfs;

/// Directories over which the outer guest mounts a tmpfs.
const COVERED: &[&str] = &["/tmp", "/var/tmp", "/run", "/dev/shm"];

/// Where the command may write; the variable that tells it is `PURLIN_SCRATCH`.
const SCRATCH: &str = "/tmp/purlin-scratch";

/// Variables that the command gets from the caller: these, and those that start with [`PREFIXES`].
const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TERM",
    "TZ",
    "COLUMNS",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
    "LD_LIBRARY_PATH",
    "CI",
];
const PREFIXES: &[&str] = &["CARGO", "RUST", "REQUIRE_", "PURLIN_", "NEXTEST", "LC_"];

/// A command for the outer guest.
#[derive(Debug)]
pub(super) struct Job {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Working directory.
    pub directory: PathBuf,
    /// Directories to be seen although they are in a place that a tmpfs covers.
    pub keep: Vec<PathBuf>,
    /// Directories that the command may write to, on the host.
    pub writable: Vec<PathBuf>,
    /// `rows columns` of the terminal, if the command is to run on one.
    pub terminal: Option<String>,
    /// The caller's variables, before selection.
    pub environment: Vec<(OsString, OsString)>,
}

impl Job {
    /// Adds the job to the outer guest's initramfs.
    pub(super) fn add_to(&self, image: Initramfs) -> Result<Initramfs> {
        let keep = self.keep.iter().filter(|path| covered(path));
        let owner = format!("{}:{}\n", geteuid(), getegid());
        let mut image = image
            .file("job/run", self.script(&credentials()?), 0o755)
            .file("job/keep", lines(keep)?, 0o644)
            .file("job/writable", lines(self.writable.iter())?, 0o644)
            .file("job/scratch", format!("{SCRATCH}\n"), 0o644)
            .file("job/owner", owner, 0o644);
        if let Some(size) = &self.terminal {
            image = image.file("job/terminal", format!("{size}\n"), 0o644);
        }
        Ok(image)
    }

    /// A shell script that becomes the command.
    fn script(&self, credentials: &[String]) -> Vec<u8> {
        // By whole paths: a shell of busybox would take its own applets.
        let mut script = b"cd ".to_vec();
        script.extend(quote(self.directory.as_os_str()));
        script.extend_from_slice(b" || exit 125\nexec /usr/bin/env -i");
        let own = [("PURLIN_SCRATCH", SCRATCH), ("PURLIN_WITH_KVM", "1")];
        let own = own.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        for (name, value) in self.environment.iter().filter(|(name, _)| passes(name)).chain(&own) {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            script.push(b' ');
            script.extend(quote(&pair));
        }
        for word in credentials.iter().map(OsStr::new).chain(self.command.iter().map(OsStr::new)) {
            script.push(b' ');
            script.extend(quote(word));
        }
        script.push(b'\n');
        script
    }
}

fn covered(path: &Path) -> bool {
    COVERED.iter().any(|dir| path.starts_with(dir) && path != Path::new(dir))
}

fn passes(name: &OsStr) -> bool {
    let name = name.as_bytes();
    NAMES.iter().any(|own| own.as_bytes() == name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

fn lines<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for path in paths {
        let bytes = path.as_os_str().as_bytes();
        if bytes.contains(&b'\n') {
            return Err(Error::new(format!("{} has a line break in its name", path.display())));
        }
        lines.extend_from_slice(bytes);
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The words before a command that make it the caller's; none for root.
fn credentials() -> Result<Vec<String>> {
    if geteuid().is_root() {
        return Ok(Vec::new());
    }
    let groups = getgroups().context(|| "cannot tell this user's groups".to_owned())?;
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let list = format!("--groups={}", groups.join(","));
    Ok(vec![
        "/usr/bin/setpriv".to_owned(),
        format!("--reuid={}", geteuid()),
        format!("--regid={}", getegid()),
        if groups.is_empty() { "--clear-groups".to_owned() } else { list },
        "--".to_owned(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(command: &[&str], environment: &[(&str, &str)]) -> Job {
        let own = |&(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        Job {
            command: command.iter().map(OsString::from).collect(),
            directory: PathBuf::from("/a b"),
            keep: Vec::new(),
            writable: Vec::new(),
            terminal: None,
            environment: environment.iter().map(own).collect(),
        }
    }

    #[test]
    fn the_script_enters_the_directory_and_becomes_the_command() {
        let script = job(&["echo", "it's"], &[]).script(&[]);

        let script = String::from_utf8(script).unwrap();
        assert!(script.starts_with("cd '/a b' || exit 125\nexec /usr/bin/env -i "), "{script}");
        assert!(script.ends_with(" 'echo' 'it'\\''s'\n"), "{script}");
    }

    #[test]
    fn only_chosen_variables_pass() {
        let variables = [("PATH", "/bin"), ("REQUIRE_KVM", "1"), ("SSH_AUTH_SOCK", "/x")];

        let script = String::from_utf8(job(&["x"], &variables).script(&[])).unwrap();

        assert!(script.contains("'PATH=/bin' 'REQUIRE_KVM=1'"), "{script}");
        assert!(!script.contains("SSH"), "{script}");
    }

    #[test]
    fn directories_below_a_tmpfs_are_kept_but_not_the_tmpfs_itself() {
        assert!(covered(Path::new("/tmp/clone")));
        assert!(!covered(Path::new("/tmp")));
        assert!(!covered(Path::new("/tmpfiles/x")));
    }
}
