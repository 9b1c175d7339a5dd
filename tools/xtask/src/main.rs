//! The repository's own commands, run as `cargo xtask COMMAND`.
//!
//! This file only names the commands; each is a module of its own.

mod apt;
mod bench;
mod checks;
mod error;
mod fuzz;
mod initramfs;
mod kernel;
mod linux;
mod test;
mod with_kvm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::workspace::Workspace;

/// The repository's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a stock Debian kernel to a shell on our own VMM.
    Linux(linux::Options),
    /// Run the tests: everything that must hold before a change lands.
    Test(test::Options),
    /// Measure what Purlin costs, beside raw ioctls and other VMMs.
    Bench(bench::Options),
    /// Look for inputs that make a device fail (libFuzzer).
    Fuzz(fuzz::Options),
    /// Run a command under a real KVM (kvm_amd), also where this machine's CPU offers none.
    WithKvm(with_kvm::Options),
    /// Fetch stock Debian kernels (and memtest86+), cached under target/xtask/.
    Kernel(kernel::Options),
    /// Build the guest's initramfs and print its path.
    Initramfs(initramfs::Options),
    /// Fetch and build all that the Linux tests boot, and print its directory.
    Guests,
    /// Check that crates depend on lower layers only.
    Layers,
    /// Check the sizes of files and traits.
    Sizes,
    /// Check that unsafe code is only where it is known.
    Unsafe,
    /// Check that code in documents is the code, or bring the documents up to date.
    Listings(checks::listings::Options),
}

impl Command {
    fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        match self {
            Self::WithKvm(options) => with_kvm::main(workspace, &options),
            Self::Kernel(options) => kernel::main(workspace, &options),
            Self::Initramfs(options) => initramfs::main(workspace, &options),
            Self::Linux(options) => linux::main(workspace, &options),
            Self::Test(options) => test::main(workspace, &options),
            Self::Bench(options) => bench::main(workspace, &options),
            Self::Fuzz(options) => fuzz::main(workspace, &options),
            Self::Guests => test::guests::main(workspace),
            Self::Layers => checks::layers::main(workspace),
            Self::Sizes => checks::sizes::main(workspace),
            Self::Unsafe => checks::unsafety::main(workspace),
            Self::Listings(options) => checks::listings::main(workspace, &options),
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let own_failure =
        if matches!(command, Command::WithKvm(_)) { with_kvm::OWN_FAILURE } else { 1 };
    match Workspace::find().and_then(|workspace| command.run(&workspace)) {
        Ok(code) => code,
        Err(error) => {
            workspace::complain(&error);
            ExitCode::from(own_failure)
        }
    }
}
