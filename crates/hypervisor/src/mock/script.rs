//! A vCPU that plays exits from a list.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
};

use arch::{CpuStart, CpuidPolicy};

use super::Played;
use crate::{Blob, Exit, Kicker, RunError, StateError, Vcpu, VcpuState};

/// The class of a script's saved state: how many exits it has played, as eight bytes.
const CLASS: &str = "SCRIPT";

/// A vCPU that plays exits from a list and remembers how reads were answered; after the list it
/// powers off.
///
/// It keeps the promises of real vCPUs: an answer counts only when the next [`run`](Vcpu::run)
/// commits it, a kick never overtakes that, it is not saved before, and a second thread may not run
/// it. `run` does not allocate.
#[derive(Debug)]
pub struct Script {
    index: u32,
    steps: Vec<Step>,
    next: usize,
    endless: bool,
    /// The step whose answer the next run commits.
    reading: Option<usize>,
    /// The last exit was an access, which the next run completes.
    accessing: bool,
    answers: Answers,
    kick: Arc<Kick>,
    bound: Option<ThreadId>,
}

#[derive(Debug)]
struct Step {
    played: Played,
    buffer: Vec<u8>,
}

/// How the reads of a script were answered, in order, as far as the answers are committed.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Answers {
    /// The answers so far.
    pub fn get(&self) -> Vec<Vec<u8>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Kick {
    pending: AtomicBool,
    /// Held while changing `pending`, so that a waiter cannot miss the change.
    lock: Mutex<()>,
    changed: Condvar,
}

impl Script {
    /// Plays `exits` once.
    pub fn new(exits: impl IntoIterator<Item = Played>) -> Self {
        let step = |played: Played| Step { buffer: vec![0xff; played.reads()], played };
        let steps: Vec<Step> = exits.into_iter().map(step).collect();
        let answers = Answers(Arc::new(Mutex::new(Vec::with_capacity(steps.len()))));
        Self {
            index: 0,
            steps,
            next: 0,
            endless: false,
            reading: None,
            accessing: false,
            answers,
            kick: Arc::default(),
            bound: None,
        }
    }

    /// Plays `exits` over and over, and remembers no answers: for benchmarks.
    pub fn endless(exits: impl IntoIterator<Item = Played>) -> Self {
        Self { endless: true, ..Self::new(exits) }
    }

    /// Where committed answers appear.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    pub(super) fn numbered(self, index: u32) -> Self {
        Self { index, ..self }
    }

    fn complete(&self) -> Result<(), StateError> {
        if self.accessing { Err(StateError::Incomplete { index: self.index }) } else { Ok(()) }
    }

    fn commit(&mut self) {
        let Some(step) = self.reading.take().and_then(|reading| self.steps.get_mut(reading)) else {
            return;
        };
        if !self.endless {
            self.answers.lock().push(std::mem::take(&mut step.buffer));
        }
    }

    /// The number of the exit to play, if the list has more.
    fn advance(&mut self) -> Option<usize> {
        if self.endless && self.next >= self.steps.len() {
            self.next = 0;
        }
        let number = self.next;
        self.next = (number + 1).min(self.steps.len());
        (number < self.steps.len()).then_some(number)
    }
}

impl Vcpu for Script {
    fn run(&mut self) -> Result<Exit<'_>, RunError> {
        let index = self.index;
        let caller = thread::current().id();
        if *self.bound.get_or_insert(caller) != caller {
            return Err(RunError::Thread { index });
        }
        self.commit();
        self.accessing = false;
        if self.kick.take() {
            return Ok(Exit::Interrupted);
        }
        let Some(number) = self.advance() else { return Ok(Exit::PowerOff) };
        let Some(Step { played, buffer }) = self.steps.get_mut(number) else {
            return Ok(Exit::PowerOff);
        };
        if !buffer.is_empty() {
            self.reading = Some(number);
            buffer.fill(0xff);
        }
        let exit = match played {
            Played::PioIn { port, width, .. } => {
                Exit::PioIn { port: *port, width: *width, data: buffer }
            }
            Played::PioOut { port, width, data } => {
                Exit::PioOut { port: *port, width: *width, data }
            }
            Played::MmioRead { addr, .. } => Exit::MmioRead { addr: *addr, data: buffer },
            Played::MmioWrite { addr, data } => Exit::MmioWrite { addr: *addr, data },
            Played::Halted => Exit::Halted,
            Played::PowerOff => Exit::PowerOff,
            Played::Reset => Exit::Reset,
            Played::Debug { pc } => Exit::Debug { pc: *pc },
            Played::Fault(fault) => Exit::Fault(fault.clone()),
            Played::Interrupted => Exit::Interrupted,
            Played::Wait => {
                self.kick.wait();
                Exit::Interrupted
            }
            Played::Fail => {
                return Err(RunError::Host {
                    index,
                    source: io::Error::other("as the script says"),
                });
            }
        };
        self.accessing = exit.is_access();
        Ok(exit)
    }

    fn start(&mut self, _how: &CpuStart, _cpuid: &CpuidPolicy) -> Result<(), StateError> {
        Ok(())
    }

    fn save(&mut self) -> Result<VcpuState, StateError> {
        self.complete()?;
        let played = u64::try_from(self.next).unwrap_or(u64::MAX).to_le_bytes().to_vec();
        let mut state = VcpuState::default();
        state.classes.insert(CLASS.into(), Blob(played));
        Ok(state)
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), StateError> {
        self.complete()?;
        let found = state.classes.get(CLASS).map(|blob| blob.0.as_slice()).unwrap_or_default();
        let bytes: [u8; 8] = found.try_into().map_err(|_| StateError::Size {
            what: CLASS,
            found: found.len(),
            expected: 8,
        })?;
        let played = u64::from_le_bytes(bytes);
        match usize::try_from(played) {
            Ok(next) if next <= self.steps.len() => {
                self.next = next;
                Ok(())
            }
            _ => Err(StateError::Invalid {
                what: "script",
                why: format!("{played} exits are played; it has {}", self.steps.len()),
            }),
        }
    }

    fn kicker(&self) -> Kicker {
        let kick = Arc::clone(&self.kick);
        Kicker::from_fn(move || kick.kick())
    }
}

impl Kick {
    fn kick(&self) {
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.pending.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    fn take(&self) -> bool {
        self.pending.load(Ordering::SeqCst) && self.pending.swap(false, Ordering::SeqCst)
    }

    fn wait(&self) {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.take() {
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
