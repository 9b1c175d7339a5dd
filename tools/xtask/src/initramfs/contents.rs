//! The two images that the repository boots: a shell to look around in, and the test runner.

use std::fs;
use std::path::PathBuf;

use super::{Initramfs, busybox};
use crate::error::{AtPath, Result};
use crate::kernel::Kernel;
use crate::workspace::Workspace;

/// Drivers for the devices that a VMM offers; those built into the kernel are left out.
const DRIVERS: &[&str] = &[
    "button",
    "evdev",
    "pvpanic-mmio",
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "af_packet",
    "virtio_console",
    "virtio_rng",
    "ext4",
    "crc32c_generic",
    "virtio_balloon",
    "virtio_pmem",
    "nd_pmem",
    "virtio_mem",
    "vmw_vsock_virtio_transport",
    "virtiofs",
];

/// The image of `cargo xtask linux`: a shell on the console; leaving it powers off.
pub(crate) fn interactive(workspace: &Workspace, kernel: &Kernel) -> Result<PathBuf> {
    let path = workspace.cache().join(format!("initramfs/interactive-{}.cpio", kernel.flavour));
    Initramfs::new()
        .busybox(&busybox(workspace, "initramfs")?)?
        .init(include_str!("interactive.sh"))
        .modules(kernel, DRIVERS)?
        .write(&path)?;
    Ok(path)
}

/// The image of the Linux tests: runs `/tests/NAME.sh` as `purlin.test=NAME` on the kernel's
/// command line says, then powers off. The scripts are those of `tests/linux/guest`.
pub(crate) fn test(workspace: &Workspace, kernel: &Kernel) -> Result<PathBuf> {
    let scripts = workspace.root().join("tests/linux/guest");
    let init = scripts.join("init");
    let init = fs::read_to_string(&init).at("read", &init)?;
    let mut image = Initramfs::new()
        .busybox(&busybox(workspace, "initramfs")?)?
        .init(&init)
        .modules(kernel, DRIVERS)?;
    for file in fs::read_dir(&scripts).at("read", &scripts)? {
        let path = file.at("read", &scripts)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".sh") {
            let text = fs::read(&path).at("read", &path)?;
            image = image.file(&format!("tests/{name}"), text, 0o755);
        }
    }
    let path = workspace.cache().join(format!("initramfs/test-{}.cpio", kernel.flavour));
    image.write(&path)?;
    Ok(path)
}
