//! A host made of files, for tests.

use std::fs;

use vmm_sys_util::tempdir::TempDir;

use super::{Check, Host};

pub(super) struct Fake {
    root: TempDir,
}

impl Fake {
    pub(super) fn new() -> Self {
        Self { root: TempDir::new().unwrap() }
    }

    pub(super) fn file(self, path: &str, text: &str) -> Self {
        let path = self.root.as_path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(super) fn host(&self) -> Host {
        Host { root: self.root.as_path().into() }
    }
}

/// The check with the given name.
pub(super) fn named(checks: &[Check], name: &str) -> Check {
    checks.iter().find(|check| check.name == name).unwrap().clone()
}
