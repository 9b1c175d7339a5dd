//! One exit, answered: the whole dispatcher.

use std::fmt;

use bus::{Action, Buses};
use hypervisor::{Exit, Fault, RunError, Vcpu};
use trace::Kind;

/// What a vCPU's thread does after one exit.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Run on.
    Continue,
    /// Nothing is half done: look at the inbox, and park if it says so.
    Park,
    /// The machine stops.
    Stop(Stop),
}

/// Why a machine stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The guest powered off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest's kernel reported that it panicked.
    Panic,
    /// The guest ended the run with a code of its own.
    Exit(u8),
    /// A vCPU halted for good.
    Halted,
    /// A vCPU cannot go on.
    Fault(Box<Fault>),
    /// A debugger's breakpoint or step, which nobody waits for.
    Debug {
        /// Linear address of the next instruction.
        pc: u64,
    },
    /// The VMM asked, not the guest.
    Requested,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reset => f.write_str("the guest asked for a reset"),
            Self::Panic => f.write_str("the guest's kernel panicked"),
            Self::Exit(code) => write!(f, "the guest ended the run with code {code}"),
            Self::Halted => f.write_str("the guest halted for good"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Debug { pc } => write!(f, "the guest stopped for a debugger at {pc:#x}"),
            Self::Requested => f.write_str("the run was stopped from outside"),
        }
    }
}

/// Runs the guest on `vcpu` up to its next exit and answers that exit from `buses`.
///
/// # Errors
/// The host cannot run the vCPU.
pub fn step(vcpu: &mut dyn Vcpu, buses: &Buses) -> Result<Step, RunError> {
    let entry = trace::mark();
    let exit = vcpu.run()?;
    trace::record(Kind::Guest, 0, entry);
    let begin = trace::mark();
    let (step, kind, value) = answer(exit, buses);
    trace::record(kind, value, begin);
    Ok(step)
}

fn answer(exit: Exit<'_>, buses: &Buses) -> (Step, Kind, u64) {
    match exit {
        Exit::PioIn { port, width, data } => {
            data.chunks_exact_mut(width.max(1)).for_each(|chunk| buses.pio.read(port, chunk));
            (Step::Continue, Kind::PioIn, port.into())
        }
        Exit::PioOut { port, width, data } => {
            let mut writes = data.chunks_exact(width.max(1)).map(|one| buses.pio.write(port, one));
            (obey(writes.find_map(stop)), Kind::PioOut, port.into())
        }
        Exit::MmioRead { addr, data } => {
            buses.mmio.read(addr, data);
            (Step::Continue, Kind::MmioRead, addr)
        }
        Exit::MmioWrite { addr, data } => {
            (obey(stop(buses.mmio.write(addr, data))), Kind::MmioWrite, addr)
        }
        Exit::Interrupted => (Step::Park, Kind::Interrupted, 0),
        other => (Step::Stop(ending(other)), Kind::Stopped, 0),
    }
}

fn obey(stop: Option<Stop>) -> Step {
    stop.map_or(Step::Continue, Step::Stop)
}

/// What a device's write asked for, if the machine has to stop for it.
fn stop(action: Action) -> Option<Stop> {
    match action {
        Action::Reset => Some(Stop::Reset),
        Action::PowerOff => Some(Stop::PowerOff),
        Action::Panic => Some(Stop::Panic),
        Action::Exit(code) => Some(Stop::Exit(code)),
        _ => None,
    }
}

/// The exits that end a run.
fn ending(exit: Exit<'_>) -> Stop {
    match exit {
        Exit::Halted => Stop::Halted,
        Exit::PowerOff => Stop::PowerOff,
        Exit::Reset => Stop::Reset,
        Exit::Debug { pc } => Stop::Debug { pc },
        Exit::Fault(fault) => Stop::Fault(fault),
        _ => Stop::Requested,
    }
}
