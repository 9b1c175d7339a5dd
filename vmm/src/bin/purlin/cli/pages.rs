//! `purlin completions` and `purlin man`: what a package installs beside the program.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man as Page;
use purlin_vmm::status::ExitStatus;

use crate::{Failure, Outcome, output};

/// Print completions for a shell
///
/// For bash: purlin completions bash > /etc/bash_completion.d/purlin
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn execute(self, mut command: Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "purlin", &mut script);
        output::print(script, ExitStatus::Done)
    }
}

/// Print the manual page, or write all pages to a directory
///
/// To read it: purlin man | man -l -
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where purlin.1, purlin-run.1 and the other pages go, instead of purlin.1 to standard output
    #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

impl Man {
    pub(crate) fn execute(self, command: Command) -> Outcome {
        match self.directory {
            None => {
                let mut page = Vec::new();
                Page::new(command).render(&mut page).map_err(Failure::run)?;
                output::print(page, ExitStatus::Done)
            }
            Some(directory) => {
                let failed = |error| Failure::run(format!("{}: {error}", directory.display()));
                write_all(command, &directory).map_err(failed)
            }
        }
    }
}

/// Writes a page for the program and for each of its commands.
fn write_all(command: Command, directory: &Path) -> io::Result<ExitStatus> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command.disable_help_subcommand(true), directory)?;
    Ok(ExitStatus::Done)
}
