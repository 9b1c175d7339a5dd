//! What the Linux tests boot, in one directory.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    error::{AtPath, Error, Result},
    initramfs,
    kernel::{self, Flavour, Kernel},
    workspace::Workspace,
};

/// Fetches and builds what is missing. The directory holds `bzImage`, `vmlinux` and `test.cpio` in
/// `cloud` and in `generic`, and `memtest86+`.
pub(crate) fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.cache().join("guests");
    for flavour in [Flavour::Cloud, Flavour::Generic] {
        let kernel = Kernel::fetch(workspace, flavour)?;
        let place = directory.join(flavour.to_string());
        fs::create_dir_all(&place).at("create", &place)?;
        link(&kernel.image, &place.join("bzImage"))?;
        link(&kernel.vmlinux, &place.join("vmlinux"))?;
        link(&initramfs::test(workspace, &kernel)?, &place.join("test.cpio"))?;
    }
    let images = kernel::memtest(workspace)?;
    let bzimage = images.iter().find(|path| path.extension().is_some_and(|e| e == "bin"));
    let bzimage = bzimage.ok_or_else(|| Error::new("the package memtest86+ has no .bin image"))?;
    link(bzimage, &directory.join("memtest86+"))?;
    Ok(directory)
}

fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::symlink_metadata(to).is_ok() {
        fs::remove_file(to).at("remove", to)?;
    }
    symlink(from, to).at("create", to)
}
