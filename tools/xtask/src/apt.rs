//! Debian packages: installing what is missing, and fetching packages without installing them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::Uid;

use crate::error::{AtPath, Error, Result};
use crate::workspace::{Workspace, run, say};

/// Something that must be on this machine, and the package that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// The package's names, in order of preference; releases differ, the first known is installed.
    pub names: &'static [&'static str],
    /// The package counts as present if one of these is: a command, or a file by its whole path.
    pub provides: &'static [&'static str],
}

impl Package {
    /// Where the first of `provides` is, if one is there.
    pub(crate) fn locate(&self) -> Option<PathBuf> {
        self.provides.iter().find_map(|name| locate(name))
    }
}

/// Finds a command in the usual directories, or checks a whole path.
pub(crate) fn locate(name: &str) -> Option<PathBuf> {
    if name.starts_with('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    // Not from PATH: a user's often lacks the sbin directories.
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
}

/// Installs the packages that are missing, or says which command would.
pub(crate) fn ensure(topic: &str, packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|p| p.locate().is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut names = known(&missing);
    let root = Root::detect().ok_or_else(|| {
        let names = names.join(" ");
        Error::new(format!(
            "{names} must be installed, which needs root: run \
             `sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}`"
        ))
    })?;
    say(topic, &format!("installing {} (apt-get)", names.join(" ")));
    if run(&mut install(root, &names)).is_err() {
        say(topic, "refreshing the package lists (apt-get update)");
        run(root.command("apt-get").arg("update"))?;
        names = known(&missing);
        run(&mut install(root, &names))?;
    }
    match missing.iter().find(|package| package.locate().is_none()) {
        None => Ok(()),
        Some(package) => Err(Error::new(format!(
            "package {} was installed, but none of {} appeared",
            package.names.join(" or "),
            package.provides.join(", ")
        ))),
    }
}

fn known(packages: &[&Package]) -> Vec<&'static str> {
    let known = |name: &&str| candidate(name).is_some();
    let choose = |p: &&Package| p.names.iter().copied().find(known).or(p.names.first().copied());
    packages.iter().filter_map(choose).collect()
}

fn install(root: Root, names: &[&str]) -> Command {
    let mut command = root.command("apt-get");
    command.args(["install", "-y", "--no-install-recommends"]).args(names);
    command
}

/// How this process may act as root.
#[derive(Debug, Clone, Copy)]
enum Root {
    Already,
    Sudo,
}

impl Root {
    fn detect() -> Option<Self> {
        if Uid::effective().is_root() {
            return Some(Self::Already);
        }
        let sudo = run(Command::new("sudo").args(["-n", "true"]));
        sudo.is_ok().then_some(Self::Sudo)
    }

    fn command(self, program: &str) -> Command {
        // By env(1), because sudo drops the variable otherwise.
        let words = ["-n", "env", "DEBIAN_FRONTEND=noninteractive", program];
        let mut command = Command::new(if matches!(self, Self::Sudo) { "sudo" } else { "env" });
        command.args(if matches!(self, Self::Sudo) { &words[..] } else { &words[2..] });
        command
    }
}

/// The version that apt would fetch; `None` if it knows no such package.
pub(crate) fn candidate(name: &str) -> Option<String> {
    let text = run(Command::new("apt-cache").args(["show", "--no-all-versions", name])).ok()?;
    let text = String::from_utf8_lossy(&text);
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "))?;
    Some(version.to_owned())
}

/// The names that apt knows and that start with `prefix`, in no order.
pub(crate) fn names(prefix: &str) -> Result<Vec<String>> {
    let text = run(Command::new("apt-cache").args(["pkgnames", prefix]))?;
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

/// Runs `fetch`; if it fails, once more with fresh package lists, if this process may refresh them.
///
/// Old lists name packages that the archive has dropped since.
pub(crate) fn fresh<T>(topic: &str, fetch: impl Fn() -> Result<T>) -> Result<T> {
    let error = match fetch() {
        Ok(fetched) => return Ok(fetched),
        Err(error) => error,
    };
    let Some(root) = Root::detect() else {
        let hint = "`sudo apt-get update` may help";
        return Err(Error::new(format!("{error} ({hint})")));
    };
    say(topic, "refreshing the package lists (apt-get update)");
    run(root.command("apt-get").arg("update"))?;
    fetch()
}

/// Fetches a package into `dir` and unpacks it there without installing it. Needs no root.
pub(crate) fn unpack(topic: &str, package: &str, dir: &Path) -> Result<()> {
    say(topic, &format!("fetching {package} (apt-get download)"));
    run(apt_get().args(["download", package]).current_dir(dir))?;
    if unpack_all(dir)? == 0 {
        return Err(Error::new(format!("apt-get downloaded no file for {package}")));
    }
    Ok(())
}

/// The same of `packages` as the `sources.list` in `state` has them, which may name another release
/// than this machine's. `state` is a directory with `lists/partial` in it.
pub(crate) fn unpack_from(state: &Path, packages: &[&str], dir: &Path) -> Result<()> {
    let command = || {
        let mut command = apt_get();
        for (option, value) in [
            ("Dir::State", state.to_path_buf()),
            ("Dir::State::status", "/dev/null".into()),
            ("Dir::Cache", state.join("cache")),
            ("Dir::Etc::sourcelist", state.join("sources.list")),
            ("Dir::Etc::sourceparts", "-".into()),
            // Nothing but the packages themselves.
            ("Acquire::Languages", "none".into()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".into()),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        command
    };
    // It is no error of apt's own if a list cannot be had.
    run(command().args(["-o", "APT::Update::Error-Mode=any", "update"]))?;
    run(command().arg("download").args(packages).current_dir(dir))?;
    let count = unpack_all(dir)?;
    if count == packages.len() {
        return Ok(());
    }
    Err(Error::new(format!("apt-get downloaded {count} of the packages {}", packages.join(", "))))
}

fn apt_get() -> Command {
    // As root, apt would fetch as the user _apt, who often may not write to the directory.
    let mut command = Command::new("apt-get");
    if Uid::effective().is_root() {
        command.args(["-o", "APT::Sandbox::User=root"]);
    }
    command
}

/// Unpacks the packages in `dir` there: how many there were.
fn unpack_all(dir: &Path) -> Result<usize> {
    let files = fs::read_dir(dir).at("read", dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    let packages: Vec<_> =
        files.filter(|path| path.extension() == Some(OsStr::new("deb"))).collect();
    for package in &packages {
        run(Command::new("dpkg-deb").arg("-x").arg(package).arg(dir))?;
        fs::remove_file(package).at("remove", package)?;
    }
    Ok(packages.len())
}

/// A package unpacked in the cache under `unpacked/`, fetched if it isn't there yet.
pub(crate) fn unpacked(workspace: &Workspace, topic: &str, package: &str) -> Result<PathBuf> {
    workspace
        .cached(&format!("unpacked/{package}"), |dir| fresh(topic, || unpack(topic, package, dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_present_when_any_of_its_files_is() {
        let shell = Package { names: &["dash"], provides: &["/nonexistent/sh", "sh"] };
        let absent = Package { names: &["x"], provides: &["no-such-command-here"] };

        assert!(shell.locate().is_some_and(|path| path.ends_with("sh")));
        assert_eq!(absent.locate(), None);
    }

    #[test]
    fn what_can_be_fetched_at_once_is_fetched_once() {
        let calls = std::cell::Cell::new(0);

        let result = fresh("test", || Ok(calls.replace(calls.get() + 1)));

        assert_eq!((result.unwrap(), calls.get()), (0, 1));
    }

    #[test]
    fn what_is_present_is_not_installed() {
        let shell = Package { names: &["no-such-package"], provides: &["sh"] };

        assert!(ensure("test", &[shell]).is_ok());
    }
}
