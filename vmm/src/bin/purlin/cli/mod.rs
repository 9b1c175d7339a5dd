//! The command line.

mod demo;
mod doctor;
mod pages;
mod run;
mod start;
mod text;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use crate::{Outcome, logger};

/// Run virtual machines on KVM.
#[derive(Debug, Parser)]
#[command(name = "purlin", version, max_term_width = 100)]
#[command(long_about = text::ABOUT, after_long_help = text::STATUS)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    /// Log more to standard error: -v what happens, -vv details, -vvv everything
    #[arg(short, long, global = true, display_order = 900, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Demo(demo::Demo),
    Doctor(doctor::Doctor),
    Completions(pages::Completions),
    Man(pages::Man),
}

/// Does what the command line says.
pub(crate) fn execute() -> Outcome {
    let cli = Cli::parse();
    logger::start(cli.verbose);
    match cli.command {
        Command::Run(command) => command.execute(),
        Command::Demo(command) => command.execute(),
        Command::Doctor(command) => command.execute(),
        Command::Completions(command) => command.execute(Cli::command()),
        Command::Man(command) => command.execute(Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration that a `purlin run` with `flags` has.
    fn run(flags: &[&str]) -> Result<run::Run, clap::Error> {
        let words = ["purlin", "run"].into_iter().chain(flags.iter().copied());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        })
    }

    fn refusal(flags: &[&str]) -> String {
        run(flags).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_make_a_configuration() {
        let run = run(&[
            "--kernel",
            "vmlinuz",
            "--memory",
            "1G,pages=2M",
            "--cpus",
            "4,threads=2",
            "--serial",
            "pty",
            "--serial",
            "com2=file:/tmp/log",
            "--on-reset",
            "reboot",
        ]);
        let config = run.unwrap().config().unwrap();
        assert_eq!(config.kernel.to_str(), Some("vmlinuz"));
        assert_eq!(config.memory.size.to_string(), "1G");
        assert_eq!(config.cpus.topology().unwrap().threads(), 2);
        assert_eq!(config.serial.com1.to_string(), "pty");
        assert_eq!(config.serial.com2.to_string(), "file:/tmp/log");
    }

    #[test]
    fn flags_override_the_keys_of_the_file_that_they_name() {
        let directory = std::env::temp_dir().join(format!("purlin-cli-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("vm.toml");
        std::fs::write(&file, "kernel = 'a'\ninitrd = 'b'\nmemory = '1G,pages=2M'").unwrap();
        let run = run(&[file.to_str().unwrap(), "--kernel", "c", "--memory", "2G"]);
        let config = run.unwrap().config();
        std::fs::remove_dir_all(&directory).unwrap();
        let config = config.unwrap();
        assert_eq!(config.kernel.to_str(), Some("c"));
        assert_eq!(config.initrd, Some(directory.join("b")));
        assert_eq!(config.memory.size.to_string(), "2G");
        assert_eq!(config.memory.pages, purlin_vmm::config::Pages::Huge2M);
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_flag_and_what_is_right() {
        let message = refusal(&["--memory", "1X"]);
        assert!(message.contains("--memory") && message.contains("512M"), "{message}");
        let message = refusal(&["--cpus", "4,thread=2"]);
        assert!(message.contains("did you mean `threads`?"), "{message}");
        let message = refusal(&["--serial", "com5=pty"]);
        assert!(message.contains("did you mean `com1`?"), "{message}");
        let message = refusal(&["--tables", "apci"]);
        assert!(message.contains("acpi"), "{message}");
    }

    #[test]
    fn wrong_flags_end_with_the_status_of_usage() {
        let error = run(&["--memroy", "1G"]).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(purlin_vmm::status::ExitStatus::Usage.code()));
        assert!(error.to_string().contains("--memory"), "{error}");
    }

    /// The flags for devices.
    const DEVICES: [&str; 11] = [
        "disk",
        "net",
        "vsock",
        "fs",
        "console",
        "rng",
        "balloon",
        "pmem",
        "memory-max",
        "vhost-user",
        "bus",
    ];

    /// The example in the help of `flag`.
    fn example(flag: &str) -> String {
        let cli = Cli::command();
        let mut flags = cli.find_subcommand("run").unwrap().get_arguments();
        let help = flags.find(|each| each.get_long() == Some(flag)).unwrap().get_long_help();
        let help = help.map(ToString::to_string).unwrap_or_default();
        let example = help.split("or example ").nth(1).unwrap_or_default();
        example.split_whitespace().next().unwrap_or_default().trim_end_matches('.').to_owned()
    }

    #[test]
    fn each_device_has_an_example_in_the_help_that_changes_what_the_machine_has() {
        let with = |flags: &[&str]| {
            let mut config = purlin_vmm::config::Config::default();
            run(flags).unwrap().apply(&mut config).unwrap();
            config
        };
        let plain = with(&["--kernel", "k"]);
        for flag in DEVICES {
            let example = example(flag);
            assert!(!example.is_empty(), "--{flag} has no example");
            let flag = format!("--{flag}");
            assert_ne!(with(&["--kernel", "k", &flag, &example]), plain, "{flag} {example}");
        }
    }

    #[test]
    fn every_other_flag_changes_what_it_names() {
        let with = |flags: &[&str]| {
            let mut config = purlin_vmm::config::Config::default();
            run(flags).unwrap().apply(&mut config).unwrap();
            config
        };
        let plain = with(&[]);
        for flags in [
            &["--kernel", "k"][..],
            &["--initrd", "i"],
            &["--cmdline", "quiet"],
            &["--memory", "1G"],
            &["--cpus", "2"],
            &["--serial", "none"],
            &["--root", "/srv/root"],
            &["--root", "/srv/root", "--", "true"],
            &["--io-threads", "2"],
            &["--debug-console", "stdio"],
            &["--on-reset", "reboot"],
            &["--grace", "1"],
            &["--protocol", "pvh"],
            &["--tables", "acpi"],
            &["--name", "vm"],
            &["--trace", "t"],
        ] {
            assert_ne!(with(flags), plain, "{flags:?}");
        }
        let root = with(&["--root", "/srv/root"]);
        assert_ne!(with(&["--root", "/srv/root", "--", "true"]), root);
    }

    #[test]
    fn the_help_tells_every_exit_status() {
        let help = Cli::command().render_long_help().to_string();
        for (status, meaning) in purlin_vmm::status::ExitStatus::TABLE {
            assert!(help.contains(&format!("{:>5}  {meaning}", status.code())), "{status:?}");
        }
    }
}
