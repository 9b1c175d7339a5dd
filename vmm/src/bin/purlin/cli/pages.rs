//! `purlin completions` and `purlin man`: what a package installs beside the program.

use std::{fs, io, path::PathBuf};

use clap::{Args, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::{
    Man as Page,
    roff::{Roff, roman},
};
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
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let Some(directory) = self.directory else {
            return output::print(page(&command).map_err(Failure::run)?, ExitStatus::Done);
        };
        let write = || {
            fs::create_dir_all(&directory)?;
            command.get_subcommands().chain([&command]).try_for_each(|command| {
                let name = command.get_display_name().unwrap_or(command.get_name());
                fs::write(directory.join(format!("{name}.1")), page(command)?)
            })
        };
        match write() {
            Ok(()) => Ok(ExitStatus::Done),
            Err(error) => Err(Failure::run(format!("{}: {error}", directory.display()))),
        }
    }
}

/// The manual page of `command`.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let more = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let page = Page::new(command.clone())
        .source(concat!("purlin ", env!("CARGO_PKG_VERSION")))
        .manual("Purlin");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    text.extend(sections(&more).to_roff().into_bytes());
    Ok(text)
}

/// A section for each line of `text` that ends with a colon and is not indented; lines stay as they
/// are.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    for line in text.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            Some(heading) => {
                roff.control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
            }
            None => {
                roff.text([roman(line)]);
            }
        }
    }
    roff.control("fi", []);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_end_with_a_colon_are_headings() {
        let roff = sections("Exit status:\n  0  done\n  a list:\n").to_roff();
        assert!(roff.contains(".SH \"EXIT STATUS\"\n.nf\n"), "{roff}");
        assert!(roff.contains("\n  a list:\n"), "{roff}");
    }
}
