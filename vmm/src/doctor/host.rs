//! A host as its files tell it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

/// A host as its files tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where its root directory is: `/`, unless in a test.
    pub root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Host {
    /// Bytes of RAM in all; `None` if the host does not say.
    pub fn memory(&self) -> Option<u64> {
        self.kilobytes("MemTotal")
    }

    /// The entry `key` of /proc/meminfo, bytes.
    pub(super) fn kilobytes(&self, key: &str) -> Option<u64> {
        let entry = self.entry("proc/meminfo", key)?;
        entry.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Whether this process may read and write the file. Unlike opening a device node, asking loads
    /// no module.
    pub(super) fn may_use(&self, path: &str) -> bool {
        access(&self.path(path), AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
    }

    /// The text of a file without the white space around it, if it can be read.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// The names in a directory.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// The number in a file.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// The value after `key:` in a file of such lines.
    pub(super) fn entry(&self, path: &str, key: &str) -> Option<String> {
        self.read(path)?.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    }

    /// Whether this process has the capability with the given number.
    pub(super) fn has_capability(&self, number: u32) -> bool {
        let effective = self.entry("proc/self/status", "CapEff").unwrap_or_default();
        u64::from_str_radix(&effective, 16).is_ok_and(|set| set >> number & 1 == 1)
    }

    /// Major and minor version of the kernel.
    pub(super) fn kernel(&self) -> Option<(u32, u32)> {
        let release = self.read("proc/sys/kernel/osrelease")?;
        let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use crate::doctor::fake::Fake;

    #[test]
    fn memory_is_read_in_bytes() {
        let fake = Fake::new().file("proc/meminfo", "MemTotal:  1024 kB\nMemFree:  1 kB\n");
        assert_eq!(fake.host().memory(), Some(1 << 20));
    }

    #[test]
    fn what_is_not_there_is_none() {
        let fake = Fake::new();
        assert_eq!(fake.host().memory(), None);
        assert_eq!(fake.host().kernel(), None);
        assert!(!fake.host().has_capability(12));
    }

    #[test]
    fn capabilities_are_bits_of_a_hexadecimal_number() {
        let fake = Fake::new().file("proc/self/status", "Name:\tx\nCapEff:\t0000000000001000\n");
        assert!(fake.host().has_capability(12));
        assert!(!fake.host().has_capability(13));
    }

    #[test]
    fn the_kernels_version_is_taken_from_its_release() {
        let fake = Fake::new().file("proc/sys/kernel/osrelease", "6.12.3-cloud-amd64\n");
        assert_eq!(fake.host().kernel(), Some((6, 12)));
    }
}
