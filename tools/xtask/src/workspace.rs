//! Where things are in the repository, and how the commands speak to the user.
#![expect(clippy::print_stderr, reason = "a command-line tool reports its progress")]

use std::error::Error as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::{AtPath, Context, Error, Result};

/// The repository: its root and its cache.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace that this tool was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().at("find the workspace at", &root)?;
        Ok(Self { root })
    }

    /// The directory of the workspace's Cargo.toml.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where fetched and generated files live: `target/xtask`. Deleting it loses only time.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("target/xtask")
    }

    /// Makes `cache()/name` by running `make` on an empty directory, unless a complete one is there.
    ///
    /// `make` fills a directory beside the final one, which is moved into place only when complete;
    /// two processes that want the same directory take turns.
    pub(crate) fn cached(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let done = self.cache().join(name);
        if done.exists() {
            return Ok(done);
        }
        let parent = done.parent().unwrap_or(&done);
        fs::create_dir_all(parent).at("create", parent)?;
        // Not with_extension: a version's last number is no extension.
        let beside = |suffix: &str| self.cache().join(format!("{name}.{suffix}"));
        let lock_path = beside("lock");
        let lock = File::create(&lock_path).at("create", &lock_path)?;
        lock.lock().at("lock", &lock_path)?;
        if !done.exists() {
            let partial = beside("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial).at("remove", &partial)?;
            }
            fs::create_dir_all(&partial).at("create", &partial)?;
            make(&partial)?;
            fs::rename(&partial, &done).at("create", &done)?;
        }
        Ok(done)
    }
}

/// Tells the user, in one line, what a command is doing.
pub(crate) fn say(topic: &str, text: &str) {
    eprintln!("{topic}: {text}");
}

/// Prints an error and its causes on one line.
pub(crate) fn complain(error: &Error) {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    eprintln!("error: {line}");
}

/// Runs a program to its end with no input; its output, or an error that quotes what it said.
pub(crate) fn run(command: &mut std::process::Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .context(|| format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    let args = args.join(" ");
    Err(Error::new(format!("`{name} {args}` failed with {}: {}", output.status, said.trim())))
}

/// Runs a command whose output is the user's, and fails if it does.
pub(crate) fn status(command: &mut std::process::Command) -> Result<()> {
    let name = format!("{command:?}");
    let status = command.status().context(|| format!("cannot run {name}"))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("{name} failed with {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(name: &str) -> Workspace {
        let root = std::env::temp_dir().join(format!("purlin-{name}-{}", std::process::id()));
        Workspace { root }
    }

    #[test]
    fn what_is_cached_is_made_once() {
        let workspace = workspace("cached-once");
        let make = |dir: &Path| fs::write(dir.join("x"), "1").at("write", dir);

        let first = workspace.cached("a/6.12.1", make).unwrap();
        let second = workspace.cached("a/6.12.1", |_| Err(Error::new("made again"))).unwrap();

        assert_eq!(fs::read(first.join("x")).unwrap(), b"1");
        assert_eq!(second, first);
        fs::remove_dir_all(workspace.root).unwrap();
    }

    #[test]
    fn what_could_not_be_made_completely_is_not_cached() {
        let workspace = workspace("cached-whole");

        let failed = workspace.cached("a", |_| Err(Error::new("no network")));
        let again = workspace.cached("a", |_| Ok(()));

        assert!(failed.is_err());
        assert!(again.is_ok_and(|dir| dir.exists()));
        fs::remove_dir_all(workspace.root).unwrap();
    }

    #[test]
    fn a_failed_program_is_quoted() {
        let failure = run(std::process::Command::new("sh").args(["-c", "echo why >&2; exit 3"]));

        let said = failure.unwrap_err().to_string();
        assert!(said.contains("exit status: 3") && said.ends_with("why"), "{said}");
    }
}
