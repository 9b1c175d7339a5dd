//! Initramfs images: busybox, an init script, kernel modules and whatever else a guest needs.

mod contents;
mod cpio;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

pub(crate) use self::contents::{interactive, test};
use self::cpio::{Archive, Entry};
use crate::apt;
use crate::error::{AtPath, Error, Result};
use crate::kernel::{Flavour, Kernel, Modules};
use crate::workspace::Workspace;

/// Options of `cargo xtask initramfs`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What the guest does.
    #[arg(value_enum, default_value = "interactive")]
    content: Content,
    /// Whose modules to include.
    #[arg(long, value_enum, default_value = "cloud")]
    flavour: Flavour,
}

/// The initramfs images that the repository uses.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Content {
    /// A shell on the console.
    Interactive,
    /// Runs the script that `purlin.test=NAME` on the kernel's command line names.
    Test,
}

/// Runs `cargo xtask initramfs`.
#[expect(clippy::print_stdout, reason = "the path is what the command is run for")]
pub(crate) fn main(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let kernel = Kernel::fetch(workspace, options.flavour)?;
    let path = match options.content {
        Content::Interactive => interactive(workspace, &kernel)?,
        Content::Test => test(workspace, &kernel)?,
    };
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// An initramfs under construction; starts with the usual directories and device nodes.
#[derive(Debug, Clone)]
pub(crate) struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

impl Initramfs {
    /// `/dev` with console, null, zero, kmsg and ttyS0, and the places to mount things on.
    pub(crate) fn new() -> Self {
        let mut image = Self::empty();
        for path in ["proc", "sys", "dev", "tmp", "run", "root", "mnt"] {
            image.insert(path, Entry::Directory);
        }
        let nodes = [
            ("console", 0o600, 5, 1),
            ("null", 0o666, 1, 3),
            ("zero", 0o666, 1, 5),
            ("kmsg", 0o600, 1, 11),
            ("ttyS0", 0o600, 4, 64),
        ];
        for (name, mode, major, minor) in nodes {
            image.insert(&format!("dev/{name}"), Entry::Character { mode, major, minor });
        }
        image
    }

    /// No entries at all: for an archive that follows another one.
    pub(crate) fn empty() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// Adds busybox as `/bin/busybox`, with `/bin/sh` for scripts.
    pub(crate) fn busybox(self, path: &Path) -> Result<Self> {
        let data = fs::read(path).at("read", path)?;
        let mut image = self.file("bin/busybox", data, 0o755);
        image.insert("bin/sh", Entry::Symlink("busybox".to_owned()));
        Ok(image)
    }

    /// The first program, a script.
    pub(crate) fn init(self, text: &str) -> Self {
        self.file("init", text, 0o755)
    }

    /// Adds modules and what they depend on under `/modules`, uncompressed, with a file
    /// `/modules/order` that names them in the order to load them. Built-in ones are left out.
    pub(crate) fn modules(mut self, kernel: &Kernel, names: &[&str]) -> Result<Self> {
        let mut order = String::new();
        for module in Modules::of(kernel)?.load_order(names)? {
            let file = format!("{}.ko", module.name);
            self = self.file(&format!("modules/{file}"), module.bytes, 0o644);
            order.push_str(&file);
            order.push('\n');
        }
        Ok(self.file("modules/order", order, 0o644))
    }

    /// Adds a file and the directories above it; `path` is relative to the root.
    pub(crate) fn file(mut self, path: &str, data: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.insert(path, Entry::File { mode, data: data.into() });
        self
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or_default().to_owned();
            self.entries.entry(parent).or_insert(Entry::Directory);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// The archive's bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        // In the map's order a directory precedes what is in it.
        for (path, entry) in &self.entries {
            archive.add(path, entry)?;
        }
        archive.finish()
    }

    /// Writes the archive to a file, replaced as a whole, so that its readers see old or new.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.bytes()?;
        // Left alone if it is the same: the file may be on a read-only directory.
        if fs::read(path).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".partial{}", std::process::id()));
        let partial = PathBuf::from(partial);
        fs::write(&partial, bytes).at("write", &partial)?;
        fs::rename(&partial, path).at("write", path)
    }
}

/// A static busybox: from its Debian package, which is only unpacked.
pub(crate) fn busybox(workspace: &Workspace, topic: &str) -> Result<PathBuf> {
    let dir = apt::unpacked(workspace, topic, "busybox-static")?;
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| dir.join(path))
        .find(|path| path.exists())
        .ok_or_else(|| Error::new(format!("no busybox in {}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_they_hold() {
        let bytes = Initramfs::empty().file("a/b/c", "x", 0o644).bytes().unwrap();

        let text = String::from_utf8_lossy(&bytes);
        let places = ["a\0", "a/b\0", "a/b/c\0"].map(|name| text.find(name).unwrap());
        assert!(places.is_sorted());
    }

    #[test]
    fn a_new_image_has_a_console() {
        let image = Initramfs::new();

        let console = Entry::Character { mode: 0o600, major: 5, minor: 1 };
        assert_eq!(image.entries.get("dev/console"), Some(&console));
    }
}
