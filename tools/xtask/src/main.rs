//! The repository's own commands, run as `cargo xtask COMMAND`.
//!
//! This file only names the commands; each is a module of its own.

mod apt;
mod error;
mod initramfs;
mod kernel;
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
    /// Run a command under a real KVM (kvm_amd), also where this machine's CPU offers none.
    WithKvm(with_kvm::Options),
    /// Fetch stock Debian kernels (and memtest86+), cached under target/xtask/.
    Kernel(kernel::Options),
    /// Build the guest's initramfs and print its path.
    Initramfs(initramfs::Options),
}

impl Command {
    fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        match self {
            Self::WithKvm(options) => with_kvm::main(workspace, &options),
            Self::Kernel(options) => kernel::main(workspace, &options),
            Self::Initramfs(options) => initramfs::main(workspace, &options),
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // 125 is what env(1) and timeout(1) report when they themselves fail.
    let own_failure = if matches!(command, Command::WithKvm(_)) { 125 } else { 1 };
    match Workspace::find().and_then(|workspace| command.run(&workspace)) {
        Ok(code) => code,
        Err(error) => {
            workspace::complain(&error);
            ExitCode::from(own_failure)
        }
    }
}
