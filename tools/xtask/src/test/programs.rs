//! A disk of Debian's programs for the guests of the Linux tests: busybox has no fio.
//!
//! The guest's init finds the file system by its label and puts the programs into its path.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::TOPIC;
use crate::{
    apt::{self, Package},
    error::{AtPath, Error, Result},
    workspace::{Workspace, run, say},
};

/// The programs, each with its package. Those that make the disk itself are first.
const PROGRAMS: &[Package] = &[
    Package { names: &["e2fsprogs"], provides: &["mkfs.ext4"] },
    Package { names: &["util-linux"], provides: &["fstrim"] },
    Package { names: &["fio"], provides: &["fio"] },
    Package { names: &["iperf3"], provides: &["iperf3"] },
    Package { names: &["pciutils"], provides: &["lspci"] },
    Package { names: &["socat"], provides: &["socat"] },
];
/// How the guest finds the disk, at most 16 bytes.
const LABEL: &str = "programs";
/// Where libraries go; the guest's loader is told so by links.
const LIBRARIES: &str = "lib";
/// Room for the file system's own structures, KiB.
const SLACK: u64 = 16 << 10;

/// The image, made if it is not there yet.
pub(super) fn image(workspace: &Workspace) -> Result<PathBuf> {
    apt::ensure(TOPIC, PROGRAMS)?;
    let names: Vec<&str> = PROGRAMS.iter().flat_map(|program| program.provides).copied().collect();
    let place = workspace.cached(&format!("programs/{}", names.join("+")), make)?;
    Ok(place.join("programs.img"))
}

fn make(dir: &Path) -> Result<()> {
    say(TOPIC, "making a disk of programs for the guests");
    let root = dir.join("root");
    for name in ["bin", LIBRARIES] {
        let path = root.join(name);
        fs::create_dir_all(&path).at("create", &path)?;
    }
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let path = program.locate().ok_or_else(|| Error::new("a program has vanished"))?;
        copy(&path, &root.join("bin"))?;
        libraries.extend(libraries_of(&path)?);
    }
    for library in &libraries {
        copy(library, &root.join(LIBRARIES))?;
    }
    let size = format!("{}K", kibibytes(&root)? + SLACK);
    let mut mkfs = Command::new(apt::locate("mkfs.ext4").unwrap_or_default());
    mkfs.args(["-q", "-L", LABEL, "-O", "^has_journal", "-m", "0", "-d"]).arg(&root);
    run(mkfs.arg(dir.join("programs.img")).arg(size))?;
    fs::remove_dir_all(&root).at("remove", &root)
}

/// Copies what `file` is or points to.
fn copy(file: &Path, into: &Path) -> Result<()> {
    let name = file.file_name().unwrap_or_default();
    fs::copy(file, into.join(name)).at("copy", file).map(drop)
}

/// The libraries that the host's loader loads for a program, itself among them.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = run(Command::new("ldd").arg(program))?;
    Ok(paths(&String::from_utf8_lossy(&listed)))
}

/// The absolute paths among what ldd(1) prints.
fn paths(listed: &str) -> Vec<PathBuf> {
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

fn kibibytes(dir: &Path) -> Result<u64> {
    let counted = run(Command::new("du").arg("-skL").arg(dir))?;
    let counted = String::from_utf8_lossy(&counted);
    let size = counted.split_whitespace().next().and_then(|size| size.parse().ok());
    size.ok_or_else(|| Error::new(format!("du says {counted:?}, not a size")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_that_ldd_prints() {
        let listed = "\tlinux-vdso.so.1 (0x7)\n\tlibc.so.6 => /lib/libc.so.6 (0x7)\n\t\
                      /lib64/ld-linux-x86-64.so.2 (0x7)\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths(listed), expected);
    }
}
