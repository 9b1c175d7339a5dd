//! A guest of our own inside the binary: what `purlin demo` runs.
//!
//! The guest is 16-bit code that runs on every KVM in a fraction of a second. It uses the processor,
//! memory, the timer interrupt, the serial port, a device of the demo's own and the clock, says so
//! and powers off; [`Report`] tells both sides of it.
//!
//! ```text
//! 0x0_0000  RAM     interrupt vectors, data, stack, program (0x7c00), texts (0x8000)
//! 0x1_0000  RAM     the 128 pages that the guest writes and reads back
//! 0xa_0000          nothing
//! 0xd_0000          the counter, the demo's own device
//! ```

mod console;
mod counter;
mod exits;
mod guest;
mod program;
mod report;

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use arch::{CpuImage, CpuStart, CpuidPolicy, Layout, Topology};
use board::{Board, BoardBuilder, ServeError};
use hypervisor::{Hypervisor, Vcpu, VmConfig};
use memory::{Backing, Bytes, GuestAddress, Ram};
use vcpu::{Stop, Vcpus, VcpusError};

use crate::doctor::{Backend, Host};

use self::{
    console::Console,
    counter::Counter,
    program::{CODE, STACK},
};
pub use self::{
    exits::Exits,
    guest::listing,
    report::{Report, Times},
};

/// Conventional memory of a PC: all that 16-bit code needs.
const RAM: u64 = 640 << 10;
/// Where the guest looks for the counter.
const COUNTER: u64 = 0xd_0000;
/// How long the guest may take. It needs a fraction of a second even where it is emulated.
const LIMIT: Duration = Duration::from_secs(10);
/// Events that are kept for the report: an exit makes two of them.
const EVENTS: usize = 1 << 14;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The machine could not be made.
    #[error("the demo's machine cannot be made: {step} failed")]
    Build {
        /// Which step.
        step: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The devices could not be served.
    #[error("the demo's devices cannot be served")]
    Serve(#[from] ServeError),
    /// The host could not run the guest.
    #[error("the demo's guest cannot be run")]
    Run(#[from] VcpusError),
    /// The guest took too long.
    #[error("the demo's guest did not power off within {limit:?}; it printed {console:?}")]
    TimeLimit {
        /// How long it had.
        limit: Duration,
        /// What it printed.
        console: String,
    },
    /// The guest ended in another way than by powering off.
    #[error("the demo's guest should have powered off, but {stop}; it printed {console:?}")]
    Stopped {
        /// How it ended.
        stop: Stop,
        /// What it printed.
        console: String,
    },
}

/// The recorder is the process's, so two runs take turns.
static RECORDING: Mutex<()> = Mutex::new(());

/// Names the step that failed.
fn failed<E: Error + Send + Sync + 'static>(step: &'static str) -> impl FnOnce(E) -> DemoError {
    move |source| DemoError::Build { step, source: Box::new(source) }
}

/// Runs the demo's guest on `hypervisor`, for ten seconds at most.
///
/// Records with the process's [`trace`], whose earlier events are dropped; runs at the same time
/// wait for each other.
///
/// # Errors
/// The machine cannot be made or run, or the guest does not power off.
pub fn run(hypervisor: &dyn Hypervisor) -> Result<Report, DemoError> {
    run_within(hypervisor, LIMIT)
}

fn run_within(hypervisor: &dyn Hypervisor, limit: Duration) -> Result<Report, DemoError> {
    let _turn = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
    let recorded_before = trace::enabled();
    trace::enable(EVENTS);
    drop(trace::take());
    let result = record(hypervisor, limit);
    if !recorded_before {
        trace::disable();
    }
    result
}

fn record(hypervisor: &dyn Hypervisor, limit: Duration) -> Result<Report, DemoError> {
    let begin = Instant::now();
    let console = Console::default();
    let Machine { mut board, vcpu, made } = build(hypervisor, &console)?;
    let buses = Arc::clone(&board.buses);
    let cpus = Vcpus::spawn(vec![vcpu], buses).map_err(failed("starting the vCPU's thread"))?;
    let entered = Instant::now();
    cpus.resume();
    let in_time = serve(&mut board, &cpus, limit)?;
    let stopped = Instant::now();
    let stop = cpus.join()?;
    match stop {
        Stop::PowerOff => {}
        Stop::Requested if !in_time => {
            return Err(DemoError::TimeLimit { limit, console: console.text() });
        }
        stop => return Err(DemoError::Stopped { stop, console: console.text() }),
    }
    let since = |time: Instant| time.saturating_duration_since(begin);
    let times = Times {
        made: since(made),
        entered: since(entered),
        first_byte: console.first().map(since),
        stopped: since(stopped),
    };
    let (exits, stays) = exits::of(&trace::take());
    let code = guest::code_len();
    let backend = Backend::of(&Host::default());
    Ok(Report { backend, code, console: console.text(), exits, stays, times })
}

/// A machine that is ready to run.
struct Machine {
    board: Board,
    vcpu: Box<dyn Vcpu>,
    /// When its VM and RAM were there.
    made: Instant,
}

fn build(hypervisor: &dyn Hypervisor, console: &Console) -> Result<Machine, DemoError> {
    let bytes = usize::try_from(RAM).map_err(failed("allocating its RAM"))?;
    let layout = Layout {
        ram: vec![(GuestAddress(0), bytes)],
        beside: Vec::new(),
        window: COUNTER..=COUNTER + 0xffff,
        gsis: 16..=23,
    };
    let ram = Ram::new(&layout.ram, Backing::Anonymous).map_err(failed("allocating its RAM"))?;
    let vm = hypervisor.create_vm(&VmConfig::default()).map_err(failed("creating the VM"))?;
    for region in ram.regions() {
        vm.map(region).map_err(failed("giving the VM its RAM"))?;
    }
    let made = Instant::now();
    let at = GuestAddress(u64::from(CODE));
    ram.memory().write_slice(&guest::image(), at).map_err(failed("writing the program"))?;

    let mut board = BoardBuilder::new(Arc::clone(&vm), ram.memory(), &layout)
        .map_err(failed("preparing the board"))?;
    attach(&mut board, console).map_err(failed("attaching the devices"))?;
    let board = board.freeze().map_err(failed("attaching the devices"))?;

    let topology = Topology::new(1, 1, 1).map_err(failed("describing the processor"))?;
    let first = CpuImage::real_mode(0, CODE, STACK);
    let mut vcpu = vm.create_vcpu(0).map_err(failed("creating the vCPU"))?;
    vcpu.start(&CpuStart::for_index(0, &first), &CpuidPolicy::host(topology))
        .map_err(failed("setting the vCPU's registers"))?;
    Ok(Machine { board, vcpu, made })
}

fn attach(board: &mut BoardBuilder, console: &Console) -> Result<(), board::BoardError> {
    board.attach("com1", legacy::Serial::com1(console.clone()))?;
    board.attach("clock", legacy::Cmos::new(RAM, 0))?;
    board.attach("power", legacy::AcpiPower::new())?;
    board.attach("counter", Counter::default())?;
    Ok(())
}

/// Serves the devices on a thread of their own until the machine stops, or stops it when `limit` is
/// over. Says whether it stopped by itself.
fn serve(board: &mut Board, cpus: &Vcpus, limit: Duration) -> Result<bool, DemoError> {
    thread::scope(|scope| {
        let (done, wait) = mpsc::channel();
        let work = move || {
            let result = board.serve(cpus.stop_event());
            // The receiver waits for the whole life of this thread.
            let _ = done.send(());
            result
        };
        let thread = thread::Builder::new()
            .name("io0".to_owned())
            .spawn_scoped(scope, work)
            .map_err(failed("starting the devices' thread"))?;
        let in_time = wait.recv_timeout(limit) != Err(mpsc::RecvTimeoutError::Timeout);
        if !in_time {
            cpus.request_stop();
        }
        match thread.join() {
            Ok(served) => served?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Ok(in_time)
    })
}

#[cfg(test)]
mod tests;
