//! From a checked configuration to a running machine, and what is said when it ends.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
    time::Duration,
};

use hypervisor::kvm::{HostKind, Kind, Kvm};
use legacy::Backend;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use purlin_vmm::{
    config::{Config, Target},
    lifecycle::{self, Control, Ending},
    machine::{Consoles, Machine},
    status::ExitStatus,
    terminal::{self, Escape, EscapeFilter, Terminal},
};
use vcpu::Stop;

use crate::{Failure, Outcome, code, message};

/// Events that a trace keeps of each thread: 40 bytes each.
const TRACE_EVENTS: usize = 1 << 18;

/// File descriptors for all connections that a guest can have, and everything else.
const DESCRIPTORS: u64 = 8192;

/// Why a stock kernel crashes on such a host.
const PVM_ADVICE: &str = "this host's KVM is KVM-PVM, which runs guest kernels in an instruction \
    emulator: a stock kernel soon needs an instruction that it lacks; boot a kernel that is built for \
    such hosts, or use a host whose CPU has VMX or SVM (purlin doctor tells)";

/// The answer to Ctrl-A h.
const KEYS: &str = "Ctrl-A x ends the run, Ctrl-A d presses Ctrl-Alt-Del, Ctrl-A a sends Ctrl-A";

/// Runs the machine until it stops.
pub(super) fn start(config: &Config) -> Outcome {
    // Before any thread, because threads inherit which signals are blocked.
    let grace = Duration::from_secs(config.grace.into());
    let control = Control::new(grace, Box::new(suspension)).map_err(Failure::run)?;
    let mut control = control.when_running(let_code_go);
    let kvm = Kvm::open().map_err(Failure::run)?;
    let stdio = stdio(config, &control).map_err(Failure::run)?;
    Machine::check_files(config).map_err(Failure::usage)?;
    if config.vsock.is_some() || config.root.is_some() || !config.fs.is_empty() {
        allow_descriptors();
    }
    let consoles = Consoles::open(config, stdio).map_err(Failure::usage)?;
    tell_paths(config, &consoles);
    if config.trace.is_some() {
        trace::enable(TRACE_EVENTS);
    }
    let terminal = raw_terminal(config).map_err(Failure::run)?;
    let result = lifecycle::run(&kvm, config, &consoles, &mut control);
    drop(terminal);
    if let Some(path) = &config.trace {
        write_trace(path).map_err(Failure::run)?;
    }
    let ending = result.map_err(failure)?;
    report(&ending);
    if !config.command.is_empty() && ending.stop == Stop::PowerOff {
        return Err(Failure::run("the guest powered off before the command had ended"));
    }
    Ok(ExitStatus::from(&ending.stop))
}

/// What built the machine need not stay in memory beside it.
fn let_code_go() {
    if let Err(error) = code::let_go() {
        log::debug!("the code that has run stays in memory: {error}");
    }
}

/// Each connection of the guest takes a file descriptor, and each file that it has open; and many
/// hosts give 1024 unless asked.
fn allow_descriptors() {
    let enough = |(soft, hard): (u64, u64)| match soft < DESCRIPTORS.min(hard) {
        true => setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard),
        false => Ok(()),
    };
    if let Err(error) = getrlimit(Resource::RLIMIT_NOFILE).and_then(enough) {
        log::info!(
            "connections and open files of the guest are limited by file descriptors: {error}"
        );
    }
}

/// Says where the consoles are: a pty to everybody, because only its path leads to it.
fn tell_paths(config: &Config, consoles: &Consoles) {
    for (port, path) in consoles.paths() {
        log::info!("{port} is {}", path.display());
        if config.targets().any(|named| named == (port, &Target::Pty)) {
            message::tell(&format!("purlin: {port} is {}\n", path.display()));
        }
    }
}

/// The machine could not be built: a wrong configuration is the user's, the rest the host's.
fn failure(error: lifecycle::LifecycleError) -> Failure {
    match error {
        lifecycle::LifecycleError::Build(error) if error.is_users() => Failure::usage(error),
        lifecycle::LifecycleError::Build(error) => Failure::run(error),
        other => Failure::run(other),
    }
}

/// Standard input and output, with the keys that are for the VMM taken out.
fn stdio(config: &Config, control: &Control) -> io::Result<Backend> {
    let quit = control.quit_event()?;
    let ctrl_alt_del = control.ctrl_alt_del_event()?;
    // A full counter is signalled all the more.
    let escape = move |escape| match escape {
        Escape::Quit => drop(quit.write(1)),
        Escape::CtrlAltDel => drop(ctrl_alt_del.write(1)),
        _ => message::tell(&format!("\npurlin: {KEYS}\n")),
    };
    let input = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    let input = EscapeFilter::new(File::from(input), escape);
    let output = Backend::new(io::stdout());
    if !config.console.iter().any(|console| console.target == Target::Stdio) {
        return output.input(input);
    }
    output.input(terminal::read_ahead(input)?)
}

/// The terminal is the guest's only if a port is connected to it.
fn raw_terminal(config: &Config) -> io::Result<Option<Terminal>> {
    if !config.targets().any(|(_, target)| *target == Target::Stdio) {
        return Ok(None);
    }
    Terminal::raw(io::stdin())
}

fn suspension(goes_on: bool) {
    let result = if goes_on { terminal::reapply() } else { terminal::lend() };
    if let Err(error) = result {
        log::warn!("the terminal does not take its settings: {error}");
    }
}

fn report(ending: &Ending) {
    match &ending.stop {
        Stop::PowerOff | Stop::Exit(_) => log::info!("{}", ending.stop),
        Stop::Fault(fault) => {
            message::tell(&format!("purlin: the guest crashed: {fault}\n"));
            if HostKind::read().kind == Kind::Pvm {
                message::tell(&format!("purlin: {PVM_ADVICE}\n"));
            }
        }
        stop => message::tell(&format!("purlin: {stop}\n")),
    }
}

fn write_trace(path: &Path) -> io::Result<()> {
    trace::write_chrome(&trace::take(), BufWriter::new(File::create(path)?))
}
