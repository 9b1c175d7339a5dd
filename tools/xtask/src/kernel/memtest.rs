//! memtest86+ from its Debian package.

use std::fs;
use std::path::PathBuf;

use crate::apt;
use crate::error::{AtPath, Error, Result};
use crate::workspace::Workspace;

/// memtest86+'s boot images, sorted by name: `memtest86+ia32.bin` and `memtest86+x64.bin`.
pub(crate) fn memtest(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let boot = apt::unpacked(workspace, "kernel", "memtest86+")?.join("boot");
    let mut images: Vec<_> = fs::read_dir(&boot)
        .at("read", &boot)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    images.sort();
    if images.is_empty() {
        return Err(Error::new(format!("no memtest86+*.bin in {}", boot.display())));
    }
    Ok(images)
}
