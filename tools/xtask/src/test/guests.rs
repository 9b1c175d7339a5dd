//! What the Linux tests boot, in one directory.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{TOPIC, passt, programs};
use crate::{
    error::{AtPath, Error, Result},
    initramfs,
    kernel::{self, Flavour, Kernel},
    workspace::Workspace,
};

/// Runs `cargo xtask guests`: for tests that are run by hand, with `PURLIN_LINUX`.
#[expect(clippy::print_stdout, reason = "the path is what the command is run for")]
pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    println!("{}", prepare(workspace)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Fetches and builds what is missing. The directory holds `bzImage`, `vmlinux` and `test.cpio` in
/// `cloud` and in `generic`, `memtest86+`, `programs.img`, `busybox`, and where it can be had `passt`, which
/// is a vhost-user back end.
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
    link(&programs::image(workspace)?, &directory.join("programs.img"))?;
    link(&initramfs::busybox(workspace, TOPIC)?, &directory.join("busybox"))?;
    passt::link(workspace, &directory.join("passt"))?;
    Ok(directory)
}

fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::symlink_metadata(to).is_ok() {
        fs::remove_file(to).at("remove", to)?;
    }
    symlink(from, to).at("create", to)
}
