//! The thread of one vCPU: parked at its inbox, or running until something interrupts it.

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread,
};

use bus::Buses;
use hypervisor::{RunError, StateError, Vcpu, VcpuState};
use vmm_sys_util::eventfd::EventFd;

use crate::{Step, Stop, step};

/// What a vCPU's thread can be told. A question carries its own reply channel, so that answers
/// cannot be mismatched.
pub(crate) enum Command {
    /// Run the guest, unless the machine has stopped.
    Resume,
    /// Park, and say so.
    Pause(mpsc::Sender<()>),
    /// Read the state. Only answered while parked.
    Save(mpsc::Sender<Result<VcpuState, StateError>>),
    /// Write the state. Only answered while parked.
    Restore(Box<VcpuState>, mpsc::Sender<Result<(), StateError>>),
    /// End the thread.
    Finish,
}

/// Why a machine did not come to an end of its own.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The host could not run a vCPU.
    Run(Arc<RunError>),
    /// The thread of this vCPU panicked.
    Gone(usize),
}

/// How the machine ended: the first vCPU, or the VMM, decides.
pub(crate) struct Outcome {
    /// Set once.
    pub(crate) stop: OnceLock<Result<Stop, Failure>>,
    /// Signalled when `stop` is set, for event loops.
    pub(crate) event: EventFd,
}

impl Outcome {
    pub(crate) fn set(&self, stop: Result<Stop, Failure>) {
        if self.stop.set(stop).is_ok()
            && let Err(error) = self.event.write(1)
        {
            log::error!("the end of the machine cannot be signalled: {error}");
        }
    }
}

/// Ends the machine if the thread of a vCPU panics, in a device for example: its other threads, and
/// whoever waits for its end, would never learn of it.
pub(crate) struct Alive<'a> {
    pub(crate) index: usize,
    pub(crate) outcome: &'a Outcome,
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.outcome.set(Err(Failure::Gone(self.index)));
        }
    }
}

/// The loop of one vCPU's thread.
pub(crate) fn serve(
    mut vcpu: Box<dyn Vcpu>,
    buses: &Buses,
    inbox: &mpsc::Receiver<Command>,
    outcome: &Outcome,
) {
    let mut running = false;
    while take_commands(vcpu.as_mut(), inbox, &mut running) {
        // What stopped the machine stays its last: a resume, or a pause that is over, must not take
        // the guest past it.
        if outcome.stop.get().is_some() {
            running = false;
            continue;
        }
        match run(vcpu.as_mut(), buses) {
            Ok(None) => {}
            Ok(Some(stop)) => outcome.set(Ok(stop)),
            Err(error) => outcome.set(Err(Failure::Run(Arc::new(error)))),
        }
    }
}

/// Runs until nothing is half done and the inbox may have something, or until the machine stops.
fn run(vcpu: &mut dyn Vcpu, buses: &Buses) -> Result<Option<Stop>, RunError> {
    loop {
        match step(vcpu, buses)? {
            Step::Continue => {}
            Step::Park => return Ok(None),
            Step::Stop(stop) => return Ok(Some(stop)),
        }
    }
}

/// The one place that looks at the inbox. Blocks while parked; false ends the thread.
fn take_commands(vcpu: &mut dyn Vcpu, inbox: &mpsc::Receiver<Command>, running: &mut bool) -> bool {
    loop {
        let command = match inbox.try_recv() {
            Ok(command) => command,
            Err(mpsc::TryRecvError::Empty) if *running => return true,
            Err(mpsc::TryRecvError::Empty) => match inbox.recv() {
                Ok(command) => command,
                Err(mpsc::RecvError) => return false,
            },
            Err(mpsc::TryRecvError::Disconnected) => return false,
        };
        // A reply that nobody waits for any more is nobody's loss.
        match command {
            Command::Resume => *running = true,
            Command::Pause(reply) => {
                *running = false;
                let _ = reply.send(());
            }
            Command::Save(reply) => {
                let _ = reply.send(vcpu.save());
            }
            Command::Restore(state, reply) => {
                let _ = reply.send(vcpu.restore(&state));
            }
            Command::Finish => return false,
        }
    }
}
