//! All vCPUs of a machine, one thread each.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use bus::Buses;
use hypervisor::{Kicker, RunError, StateError, Vcpu, VcpuState};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{
    Stop,
    thread::{Alive, Command, Failure, Outcome, serve},
};

/// The vCPUs of one machine, each on a thread named `vcpu0`, `vcpu1`, ...
///
/// ```text
///            spawn              resume
///   ()  ───────────►  parked  ─────────►  running ──┐ an exit stops the machine,
///                       ▲                    │      │ or request_stop
///                       └──── pause ─────────┘      ▼
///                        (Paused: save, restore)  stopped ── join ──► Stop
/// ```
///
/// Dropping it ends the threads, whatever they do.
pub struct Vcpus {
    threads: Vec<VcpuThread>,
    outcome: Arc<Outcome>,
    /// Whether the threads were told to run; held by [`Paused`] so that nobody resumes them.
    running: Mutex<bool>,
}

struct VcpuThread {
    inbox: mpsc::Sender<Command>,
    kicker: Kicker,
    handle: Option<JoinHandle<()>>,
}

/// Why the threads could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The host gives no event.
    #[error("the host gives no event for the end of the machine")]
    Event(#[source] io::Error),
    /// The host gives no thread.
    #[error("the host gives no thread for vCPU {index}")]
    Thread {
        /// The vCPU.
        index: usize,
        /// What the host said.
        source: io::Error,
    },
}

/// Why vCPUs were not paused, saved, restored or joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VcpusError {
    /// A thread panicked, in a device for example.
    #[error("the thread of vCPU {index} is gone")]
    Gone {
        /// The vCPU.
        index: usize,
    },
    /// The host could not run a vCPU.
    #[error("the machine cannot be run")]
    Run(#[source] Arc<RunError>),
    /// A vCPU's state was not read or written.
    #[error("the state of vCPU {index} cannot be handled")]
    State {
        /// The vCPU.
        index: usize,
        /// Why.
        source: StateError,
    },
    /// The saved states are of another machine.
    #[error("{found} saved vCPU states for {expected} vCPUs")]
    Count {
        /// How many states there are.
        found: usize,
        /// How many vCPUs there are.
        expected: usize,
    },
}

impl From<Failure> for VcpusError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Run(error) => Self::Run(error),
            Failure::Gone(index) => Self::Gone { index },
        }
    }
}

impl Vcpus {
    /// Gives each vCPU a thread, parked. `vcpus` are in the order of their indices.
    ///
    /// # Errors
    /// The host gives no thread or event; threads made before are ended.
    pub fn spawn(vcpus: Vec<Box<dyn Vcpu>>, buses: Arc<Buses>) -> Result<Self, SpawnError> {
        let event = EventFd::new(EFD_NONBLOCK).map_err(SpawnError::Event)?;
        let outcome = Arc::new(Outcome { stop: OnceLock::new(), event });
        let mut all = Self { threads: Vec::new(), outcome, running: Mutex::new(false) };
        for (index, vcpu) in vcpus.into_iter().enumerate() {
            let (inbox, commands) = mpsc::channel();
            let kicker = vcpu.kicker();
            let (buses, outcome) = (Arc::clone(&buses), Arc::clone(&all.outcome));
            let handle = thread::Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(move || {
                    let _alive = Alive { index, outcome: &outcome };
                    serve(vcpu, &buses, &commands, &outcome);
                })
                .map_err(|source| SpawnError::Thread { index, source })?;
            all.threads.push(VcpuThread { inbox, kicker, handle: Some(handle) });
        }
        Ok(all)
    }

    /// Lets the guest run, unless the machine has stopped. Waits while somebody holds a [`Paused`].
    pub fn resume(&self) {
        let mut running = self.running();
        self.tell_all_to_run();
        *running = true;
    }

    /// Stops guest execution where nothing is half done, and returns when every thread is parked.
    /// The guest goes on when the [`Paused`] is dropped, if it ran before.
    ///
    /// # Errors
    /// A thread is gone.
    pub fn pause(&self) -> Result<Paused<'_>, VcpusError> {
        let running = self.running();
        // From here on the guard resumes what was parked, also if one thread is gone.
        let paused = Paused { cpus: self, running };
        let waits: Vec<_> = self.ask_all(Command::Pause);
        for (index, wait) in waits.into_iter().enumerate() {
            wait.recv().map_err(|_| VcpusError::Gone { index })?;
        }
        Ok(paused)
    }

    /// Ends the run with [`Stop::Requested`], unless it has ended already.
    pub fn request_stop(&self) {
        self.outcome.set(Ok(Stop::Requested));
    }

    /// Why the machine has stopped, if it has.
    pub fn stopped(&self) -> Option<Stop> {
        self.outcome.stop.get()?.as_ref().ok().cloned()
    }

    /// Signalled once when the machine stops, for event loops. Do not read it.
    pub fn stop_event(&self) -> &EventFd {
        &self.outcome.event
    }

    /// Waits until the machine stops, ends the threads, and says why it stopped.
    ///
    /// # Errors
    /// The host could not run a vCPU, or the thread of one panicked.
    pub fn join(mut self) -> Result<Stop, VcpusError> {
        let stop = self.outcome.stop.wait().clone();
        self.finish();
        stop.map_err(VcpusError::from)
    }

    /// As [`join`](Self::join), but only tells the threads to end: for a process that is about to
    /// end itself, where a thread may be waiting for something that never comes (a terminal that
    /// nobody reads).
    ///
    /// # Errors
    /// The host could not run a vCPU, or the thread of one panicked.
    pub fn detach(mut self) -> Result<Stop, VcpusError> {
        let stop = self.outcome.stop.wait().clone();
        self.tell_all_to_finish();
        self.threads.clear();
        stop.map_err(VcpusError::from)
    }

    fn running(&self) -> MutexGuard<'_, bool> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_all_to_run(&self) {
        for thread in &self.threads {
            // A thread that is gone cannot run; the outcome says why.
            let _ = thread.inbox.send(Command::Resume);
        }
    }

    /// Asks every thread, kicks it, and returns where each will answer.
    fn ask_all<T>(&self, question: impl Fn(mpsc::Sender<T>) -> Command) -> Vec<mpsc::Receiver<T>> {
        let ask = |thread: &VcpuThread| {
            let (reply, wait) = mpsc::channel();
            // If the thread is gone, the reply channel closes, and waiting says so.
            let _ = thread.inbox.send(question(reply));
            thread.kicker.kick();
            wait
        };
        self.threads.iter().map(ask).collect()
    }

    fn tell_all_to_finish(&self) {
        for thread in &self.threads {
            let _ = thread.inbox.send(Command::Finish);
            thread.kicker.kick();
        }
    }

    fn finish(&mut self) {
        self.tell_all_to_finish();
        for (index, thread) in self.threads.iter_mut().enumerate() {
            if thread.handle.take().is_some_and(|handle| handle.join().is_err()) {
                log::error!("the thread of vCPU {index} panicked");
            }
        }
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for Vcpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpus").field("count", &self.threads.len()).finish_non_exhaustive()
    }
}

/// Proof that no guest code runs. vCPU state can be saved or restored only through it; dropping it
/// lets the guest go on if it ran before.
pub struct Paused<'a> {
    cpus: &'a Vcpus,
    running: MutexGuard<'a, bool>,
}

impl Paused<'_> {
    /// The state of every vCPU, in the order of their indices.
    ///
    /// # Errors
    /// A vCPU's state cannot be read.
    pub fn save(&self) -> Result<Vec<VcpuState>, VcpusError> {
        collect(self.cpus.ask_all(Command::Save))
    }

    /// Gives every vCPU its state.
    ///
    /// # Errors
    /// There are not as many states as vCPUs (nothing is changed then), or a state is refused.
    pub fn restore(&self, states: Vec<VcpuState>) -> Result<(), VcpusError> {
        let (found, expected) = (states.len(), self.cpus.threads.len());
        if found != expected {
            return Err(VcpusError::Count { found, expected });
        }
        let mut waits = Vec::with_capacity(expected);
        for (thread, state) in self.cpus.threads.iter().zip(states) {
            let (reply, wait) = mpsc::channel();
            let _ = thread.inbox.send(Command::Restore(Box::new(state), reply));
            waits.push(wait);
        }
        collect(waits).map(|_: Vec<()>| ())
    }
}

fn collect<T>(waits: Vec<mpsc::Receiver<Result<T, StateError>>>) -> Result<Vec<T>, VcpusError> {
    let answer = |(index, wait): (usize, mpsc::Receiver<Result<T, StateError>>)| {
        let answer = wait.recv().map_err(|_| VcpusError::Gone { index })?;
        answer.map_err(|source| VcpusError::State { index, source })
    };
    waits.into_iter().enumerate().map(answer).collect()
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if *self.running {
            self.cpus.tell_all_to_run();
        }
    }
}

impl fmt::Debug for Paused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Paused")
    }
}
