//! `cargo xtask linux`: a stock Debian kernel to a shell, on our own VMM.

use std::{
    ffi::OsString,
    io::IsTerminal,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use clap::Args;

use crate::{
    error::{Context, Result},
    initramfs,
    kernel::{Flavour, Kernel},
    test::binaries,
    with_kvm::{self, Host},
    workspace::{Workspace, say},
};

/// Options of `cargo xtask linux`.
#[derive(Debug, Args)]
#[command(after_help = "\
Leave the guest with `exit` or `poweroff`; Ctrl-A x ends it at once.

  cargo xtask linux
  cargo xtask linux --flavour generic -- --cpus 2 --memory 1G")]
pub(crate) struct Options {
    /// Which of Debian's kernels.
    #[arg(long, value_enum, default_value_t = Flavour::Cloud)]
    flavour: Flavour,
    /// Further flags of `purlin run`.
    #[arg(last = true, value_name = "FLAG")]
    flags: Vec<OsString>,
}

const TOPIC: &str = "linux";

/// Runs `cargo xtask linux`.
pub(crate) fn main(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    say(TOPIC, "fetching a stock Debian kernel (cached afterwards)");
    let kernel = Kernel::fetch(workspace, options.flavour)?;
    let initrd = initramfs::interactive(workspace, &kernel)?;
    say(TOPIC, "building purlin in release");
    let purlin = binaries::purlin(workspace)?;

    let mut arguments: Vec<OsString> = vec!["run".into()];
    arguments.extend(["--kernel".into(), kernel.image.into()]);
    arguments.extend(["--initrd".into(), initrd.into()]);
    arguments.extend(["--cmdline".into(), "console=ttyS0 quiet".into()]);
    arguments.extend(options.flags.iter().cloned());
    if Host::detect() == Host::Native {
        say(TOPIC, &format!("booting {} on this CPU's VMX or SVM", kernel.version));
        let failure = Command::new(&purlin).args(arguments).exec();
        return Err(failure).context(|| format!("cannot run {}", purlin.display()));
    }
    say(TOPIC, "this CPU offers no VMX or SVM: booting inside xtask with-kvm, which emulates one");
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let command = [vec![purlin.into()], arguments].concat();
    with_kvm::main(workspace, &with_kvm::Options { tty, ..with_kvm::Options::for_command(command) })
}
