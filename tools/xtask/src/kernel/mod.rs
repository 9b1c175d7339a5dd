//! Stock Debian kernels: fetched as packages, unpacked into the cache, never installed.

mod decompress;
mod memtest;
mod modules;
mod package;
mod vmlinux;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

pub(crate) use self::memtest::memtest;
pub(crate) use self::modules::Modules;
use crate::apt;
use crate::error::{AtPath, Error, Result};
use crate::workspace::Workspace;

/// Options of `cargo xtask kernel`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which kernels; all if none is named.
    #[arg(value_enum)]
    which: Vec<Image>,
}

/// What `cargo xtask kernel` can fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Image {
    /// Debian's kernel for virtual machines.
    Cloud,
    /// Debian's kernel for everything.
    Generic,
    /// memtest86+, a bzImage that is no Linux.
    Memtest,
}

/// Runs `cargo xtask kernel`: prints what each image is and where.
#[expect(clippy::print_stdout, reason = "the paths are what the command is run for")]
pub(crate) fn main(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let wanted = |image| options.which.is_empty() || options.which.contains(&image);
    for (image, flavour) in [(Image::Cloud, Flavour::Cloud), (Image::Generic, Flavour::Generic)] {
        if wanted(image) {
            let kernel = Kernel::fetch(workspace, flavour)?;
            println!("{flavour} {} bzImage {}", kernel.version, kernel.image.display());
            println!("{flavour} {} vmlinux {}", kernel.version, kernel.vmlinux.display());
            println!("{flavour} {} modules {}", kernel.version, kernel.modules.display());
        }
    }
    if wanted(Image::Memtest) {
        for path in memtest(workspace)? {
            println!("memtest {}", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Which of Debian's builds of a kernel version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavour {
    /// For virtual machines: virtio transports, consoles and virtiofs are built in.
    Cloud,
    /// For any machine: nearly every driver is a module.
    Generic,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        })
    }
}

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    pub flavour: Flavour,
    /// As `uname -r` says it.
    pub version: String,
    /// The bzImage.
    pub image: PathBuf,
    /// The ELF kernel that the bzImage contains.
    pub vmlinux: PathBuf,
    /// `lib/modules/VERSION`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The newest stock 6.12 kernel of this flavour (else the newest of any version, and says so).
    ///
    /// Stays the same until `target/xtask/linux` is deleted.
    pub(crate) fn fetch(workspace: &Workspace, flavour: Flavour) -> Result<Self> {
        let dir = workspace.cached(&format!("linux/{flavour}"), |dir| {
            apt::ensure(TOPIC, decompress::TOOLS)?;
            apt::fresh(TOPIC, || apt::unpack(TOPIC, &package::newest(TOPIC, flavour)?, dir))?;
            let image = Self::parts(dir)?.1;
            let vmlinux = vmlinux::extract(&fs::read(&image).at("read", &image)?)?;
            let path = dir.join("vmlinux");
            fs::write(&path, vmlinux).at("write", &path)
        })?;
        let (version, image, modules) = Self::parts(&dir)?;
        Ok(Self { flavour, version, image, vmlinux: dir.join("vmlinux"), modules })
    }

    /// Version, bzImage and modules of the kernel unpacked in `dir`.
    fn parts(dir: &Path) -> Result<(String, PathBuf, PathBuf)> {
        let boot = dir.join("boot");
        let image = fs::read_dir(&boot)
            .at("read", &boot)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.to_string_lossy().contains("/vmlinuz-"))
            .ok_or_else(|| Error::new(format!("no vmlinuz in {}", boot.display())))?;
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let version = name.trim_start_matches("vmlinuz-").to_owned();
        let modules = ["lib/modules", "usr/lib/modules"]
            .iter()
            .map(|place| dir.join(place).join(&version))
            .find(|path| path.exists())
            .ok_or_else(|| Error::new(format!("no modules of {version} in {}", dir.display())))?;
        Ok((version, image, modules))
    }
}

const TOPIC: &str = "kernel";
