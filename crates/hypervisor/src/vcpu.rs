//! A virtual processor.

use std::{fmt, io, sync::Arc};

use arch::{CpuStart, CpuidPolicy};

use crate::{Exit, VcpuState};

/// One virtual processor, run by one thread at a time.
pub trait Vcpu: Send {
    /// Runs the guest until something needs the VMM. The first call binds the vCPU to the calling
    /// thread.
    ///
    /// # Errors
    /// The host cannot run the vCPU at all; what the guest did wrong is an [`Exit::Fault`].
    fn run(&mut self) -> Result<Exit<'_>, RunError>;

    /// Gives the vCPU the state that a fresh machine starts with. `cpuid` decides what CPUID says.
    ///
    /// # Errors
    /// The host refuses the state.
    fn start(&mut self, how: &CpuStart, cpuid: &CpuidPolicy) -> Result<(), StateError>;

    /// The whole state. Not between a port or memory access and the run that completes it, which a
    /// kick makes return [`Exit::Interrupted`].
    ///
    /// # Errors
    /// An access is not complete, or the host does not give a register class.
    fn save(&mut self) -> Result<VcpuState, StateError>;

    /// The inverse of [`save`](Self::save), in the order that the host needs.
    ///
    /// # Errors
    /// An access is not complete (nothing is changed then), the state is malformed, or the host refuses a register class; the vCPU is then unusable.
    fn restore(&mut self, state: &VcpuState) -> Result<(), StateError>;

    /// What makes [`run`](Self::run) return [`Exit::Interrupted`].
    fn kicker(&self) -> Kicker;

    /// Breakpoints and single steps, if the host can.
    fn debugger(&mut self) -> Option<&mut dyn Debugger> {
        None
    }
}

/// Breakpoints and single steps.
pub trait Debugger {
    /// Replaces what the vCPU stops at.
    ///
    /// # Errors
    /// The host refuses.
    fn stop_at(&mut self, what: &GuestDebug) -> Result<(), StateError>;
}

/// What a debugged vCPU stops at, with [`Exit::Debug`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestDebug {
    /// After every instruction.
    pub single_step: bool,
    /// Before the instructions at these linear addresses.
    pub breakpoints: [Option<u64>; 4],
}

/// Interrupts the run of one vCPU, from any thread: the run under way, or else the next, returns
/// [`Exit::Interrupted`] after what it had begun is complete. Two kicks may count as one.
#[derive(Clone)]
pub struct Kicker(Arc<dyn Fn() + Send + Sync>);

impl Kicker {
    /// A kicker that calls `kick`, which must do what the type promises.
    pub fn from_fn(kick: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(kick))
    }

    /// Kicks.
    pub fn kick(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Kicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kicker")
    }
}

/// Why the host cannot run a vCPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The run call failed.
    #[error("the host cannot run vCPU {index}")]
    Host {
        /// The vCPU.
        index: u32,
        /// What the host said.
        source: io::Error,
    },
    /// A second thread ran the vCPU.
    #[error("vCPU {index} is bound to the thread that ran it first")]
    Thread {
        /// The vCPU.
        index: u32,
    },
}

/// Why state is not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The host refused.
    #[error("the host refuses to {verb} {what}")]
    Host {
        /// `read` or `write`.
        verb: &'static str,
        /// Which state.
        what: String,
        /// What the host said.
        source: io::Error,
    },
    /// Saved state is not what it says it is.
    #[error("saved {what} has {found} bytes; {expected} are right")]
    Size {
        /// Which state.
        what: &'static str,
        /// How many bytes there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The last exit was a port or memory access, which only the next run completes.
    #[error("vCPU {index} has an access under way; kick it and run it to Exit::Interrupted first")]
    Incomplete {
        /// The vCPU.
        index: u32,
    },
    /// A value cannot be.
    #[error("saved {what} cannot be restored: {why}")]
    Invalid {
        /// Which state.
        what: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The backend has no such state.
    #[error("{0} is not supported by this backend")]
    Unsupported(&'static str),
}
