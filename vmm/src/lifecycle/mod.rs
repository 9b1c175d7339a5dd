//! A guest as an ordinary Linux process: signals press its buttons, and a reboot boots again.
//!
//! ```text
//!             SIGTERM, SIGINT, SIGHUP             grace over, second signal
//!   running ──────────────────────────► closing ───────────────────────────► stopped
//!      │ ▲         power button            │        SIGQUIT, escape key         ▲
//!      │ └── reset, on-reset = reboot      └── the guest powers off ────────────┤
//!      └────────────── power off, reset, panic, crash ──────────────────────────┘
//! ```

mod control;
mod watch;

use hypervisor::Hypervisor;
use vcpu::{Stop, Vcpus};

pub use control::{Control, ControlError, Suspension};
pub use watch::Cause;

use crate::{
    config::{Config, OnReset},
    machine::{BuildError, Consoles, Machine, RunError},
};

/// How a run ended: what stopped the guest, and who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why the guest stopped.
    pub stop: Stop,
    /// Who asked for an end, if not the guest: always there with [`Stop::Requested`].
    pub cause: Option<Cause>,
}

/// Why a run failed on the host's side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// The machine could not be built.
    #[error("the machine cannot be built")]
    Build(#[source] BuildError),
    /// The machine no longer runs.
    #[error("the machine cannot go on")]
    Run(#[source] RunError),
    /// The run cannot be controlled.
    #[error("the machine cannot be watched")]
    Control(#[source] ControlError),
}

/// Builds the machine that `config` describes and runs it to its end; with
/// [`OnReset::Reboot`], to the end after the last reboot.
///
/// # Errors
/// The machine cannot be built, or the host fails it.
pub fn run(
    hypervisor: &dyn Hypervisor,
    config: &Config,
    consoles: &Consoles,
    control: &mut Control,
) -> Result<Ending, LifecycleError> {
    loop {
        let machine = Machine::new(hypervisor, config, consoles).map_err(LifecycleError::Build)?;
        let (buttons, terminal) = (machine.buttons(), machine.terminal());
        let watch = |cpus: &Vcpus| {
            control.running();
            let watched = watch::until_stopped(cpus, &buttons, terminal.as_ref(), control);
            // Nobody could end a guest that nobody watches.
            cpus.request_stop();
            watched
        };
        let (stop, wish) = machine.run(watch).map_err(LifecycleError::Run)?;
        let wish = wish.map_err(LifecycleError::Control)?;
        let reboots = stop == Stop::Reset && config.on_reset == OnReset::Reboot;
        if reboots && wish.is_none() {
            log::info!("{}: the guest asked for a reset; booting again", config.name);
            continue;
        }
        // A reset that came with the end, and would not have been one, is not why it ends.
        let stopped = wish.as_ref().is_some_and(|wish| wish.stopped);
        let stop = if reboots && stopped { Stop::Requested } else { stop };
        return Ok(Ending { stop, cause: wish.map(|wish| wish.cause) });
    }
}
