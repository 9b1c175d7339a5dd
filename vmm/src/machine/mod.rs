//! From a configuration to a machine: each part of the kit, put together once.

mod balloon;
mod beside;
mod command;
mod consoles;
mod error;
mod memory_size;
mod network;
mod ram;
mod share;
mod sockets;
mod storage;
mod terminals;
mod vhost_user;
mod virtio;

use std::{fs::File, num::NonZeroUsize, path::Path, sync::Arc, thread};

use ::virtio::Handle;
use arch::{CpuStart, CpuidPolicy, Layout, MMIO_HOLE_START, Topology};
use board::{Board, BoardBuilder, Hotplug};
use boot::{BootError, Payload, Platform};
use hypervisor::{Hypervisor, Vm, VmConfig};
use memory::Ram;
use vcpu::{Stop, Vcpus};
use virtio_balloon::Balloon;
use virtio_blk::Blk;
use virtio_net::Net;

pub use consoles::Consoles;
pub use error::{BuildError, RunError};
pub use memory_size::{MemorySize, MemorySizeError};
pub use terminals::TerminalSize;

use self::{beside::Beside, command::Told};
use crate::config::{self, Config};

/// A machine that is ready to run: its kernel is loaded, its vCPUs are parked.
#[derive(Debug)]
pub struct Machine {
    board: Board,
    cpus: Vcpus,
    controls: Controls,
    reboots: bool,
}

/// What the rest of the program can reach of a running machine.
#[derive(Clone, Debug)]
struct Controls {
    buttons: Buttons,
    memory: Option<MemorySize>,
    balloon: Option<Handle<Balloon>>,
    disks: Vec<Handle<Blk>>,
    nets: Vec<Handle<Net>>,
    terminal: Option<TerminalSize>,
    told: Option<Told>,
}

/// What a person could press on the machine. Clones press the same buttons, from any thread.
#[derive(Clone, Debug)]
pub struct Buttons {
    power: legacy::PowerButton,
    keyboard: legacy::Keys,
}

impl Buttons {
    /// Presses the power button; the guest shuts down if it listens.
    pub fn power(&self) {
        self.power.press_power_button();
    }

    /// Presses Ctrl, Alt and Delete; false if the guest does not listen to its keyboard.
    pub fn ctrl_alt_del(&self) -> bool {
        self.keyboard.ctrl_alt_del()
    }
}

impl Machine {
    /// Builds the machine that `config` describes, its serial ports connected to `consoles`.
    ///
    /// RAM is mapped before anything else is made, because hosts make interrupt controllers quicker
    /// afterwards.
    ///
    /// # Errors
    /// The configuration, the kernel or the host does not allow it; nothing is left behind.
    pub fn new(
        hypervisor: &dyn Hypervisor,
        config: &Config,
        consoles: &Consoles,
    ) -> Result<Self, BuildError> {
        let topology = config.cpus.topology()?;
        let payload = payload(config)?;
        let mut layout = Layout::for_ram(config.memory.size.0)?;
        let ram = ram::build(&layout, &config.memory, &config.backing())?;
        let (ram, beside) = Beside::add(config, &mut layout, ram)?;
        let bits = hypervisor.address_bits()?;
        layout.check_reach(bits)?;
        let vm =
            hypervisor.create_vm(&VmConfig { topology: Some(topology), ..VmConfig::default() })?;
        for region in ram.regions() {
            if ram.is_read_only(&region) { vm.map_read_only(region) } else { vm.map(region) }?;
        }
        let (board, controls) = board(&vm, &ram, (&layout, bits), (config, consoles, beside))?;
        let platform = Platform { layout: &layout, topology: &topology, nodes: &board.nodes };
        let first = boot::load(&ram.memory(), &platform, &payload);
        let first = first.map_err(|error| unbootable(config, error))?;
        let cpus = vcpus(vm.as_ref(), topology, &first)?;
        let cpus = Vcpus::spawn(cpus, Arc::clone(&board.buses))?;
        let reboots = config.on_reset == config::OnReset::Reboot;
        Ok(Self { board, cpus, controls, reboots })
    }

    /// Whether the files that `config` names are there and hold a kernel: before anything is opened
    /// for writing on the machine's behalf.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_files(config: &Config) -> Result<(), BuildError> {
        let payload = payload(config)?;
        boot::probe(&payload.kernel).map_err(|error| unbootable(config, error.into()))?;
        Ok(())
    }

    /// The machine's buttons.
    pub fn buttons(&self) -> Buttons {
        self.controls.buttons.clone()
    }

    /// What attaches devices to the machine while it runs, and takes them away; `None` unless its
    /// devices are on PCI.
    pub fn hotplug(&self) -> Option<Hotplug> {
        self.board.hotplug()
    }

    /// The size of the machine's memory, if it can have another than it started with.
    pub fn memory(&self) -> Option<MemorySize> {
        self.controls.memory.clone()
    }

    /// The machine's memory balloon, if it has one.
    pub fn balloon(&self) -> Option<Handle<Balloon>> {
        self.controls.balloon.clone()
    }

    /// The machine's disks, in the order of [`Config::disk`]. By these a disk is
    /// [looked at](Blk::resize) after its image has grown or shrunk, and its
    /// [rates](Blk::set_rates) are changed, from any thread while the guest runs.
    pub fn disks(&self) -> Vec<Handle<Blk>> {
        self.controls.disks.clone()
    }

    /// The machine's network cards, in the order of [`Config::net`]. By these a cable is
    /// [pulled out](Net::set_link), and [rates](Net::set_rates) are changed, from any thread while
    /// the guest runs.
    pub fn nets(&self) -> Vec<Handle<Net>> {
        self.controls.nets.clone()
    }

    /// The size of the guest's terminal, if it has one that is the terminal of this process.
    pub fn terminal(&self) -> Option<TerminalSize> {
        self.controls.terminal.clone()
    }

    /// Runs the guest until it stops, and says why. Devices are served by a thread named `io0`;
    /// meanwhile this thread runs `watch`, which is given the vCPUs, must return once their
    /// [stop event](Vcpus::stop_event) is signalled, and whose answer is passed on.
    ///
    /// # Errors
    /// The host can no longer run the guest or serve its devices.
    pub fn run<T>(mut self, watch: impl FnOnce(&Vcpus) -> T) -> Result<(Stop, T), RunError> {
        let (board, cpus) = (&mut self.board, &self.cpus);
        let watched = thread::scope(|scope| {
            let serve = move || {
                let served = board.serve(cpus.stop_event());
                // Without devices the guest must not go on.
                cpus.request_stop();
                served
            };
            let io = thread::Builder::new().name("io0".to_owned()).spawn_scoped(scope, serve);
            let io = io.map_err(RunError::Thread)?;
            cpus.resume();
            let watched = watch(cpus);
            io.join().map_err(|_| RunError::Io)?.map_err(RunError::Serve)?;
            Ok::<T, RunError>(watched)
        })?;
        // A reboot needs the old machine gone; an end does not wait for a console that blocks.
        let again = self.reboots && self.cpus.stopped() == Some(Stop::Reset);
        let stop = if again { self.cpus.join()? } else { self.cpus.detach()? };
        let stop = match &self.controls.told {
            Some(told) => told.ending(stop),
            None => stop,
        };
        Ok((stop, watched))
    }
}

fn payload(config: &Config) -> Result<Payload, BuildError> {
    let kernel = open("kernel", &config.kernel)?;
    let initrd = config.initrd.as_deref().map(|path| open("initrd", path)).transpose()?;
    Ok(Payload {
        initrd,
        cmdline: command::cmdline(config),
        protocol: match config.protocol {
            config::Protocol::Auto => boot::Protocol::Auto,
            config::Protocol::Linux => boot::Protocol::Linux,
            config::Protocol::Pvh => boot::Protocol::Pvh,
        },
        tables: match config.tables {
            config::Tables::Both => boot::Tables::Both,
            config::Tables::Acpi => boot::Tables::Acpi,
            config::Tables::Mp => boot::Tables::MpTable,
        },
        ..Payload::new(kernel)
    })
}

/// Why `config` does not boot, with the file at fault.
fn unbootable(config: &Config, source: BootError) -> BuildError {
    let (what, path) = match (&source, &config.initrd) {
        (BootError::Kernel(_), _) => ("kernel", &config.kernel),
        (BootError::Initrd(_), Some(initrd)) => ("initrd", initrd),
        _ => return BuildError::Boot(source),
    };
    BuildError::Load { what, path: path.clone(), source }
}

fn open(what: &'static str, path: &Path) -> Result<File, BuildError> {
    let failed = |source| BuildError::Open { what, path: path.to_owned(), source };
    File::open(path).map_err(failed)
}

/// Attaches the devices of a PC, and freezes the board.
fn board(
    vm: &Arc<dyn Vm>,
    ram: &Ram,
    (layout, bits): (&Layout, u32),
    (config, consoles, beside): (&Config, &Consoles, Beside),
) -> Result<(Board, Controls), BuildError> {
    let mut board = BoardBuilder::new(Arc::clone(vm), ram.memory(), layout)?;
    board.io_threads(io_threads(config))?;
    consoles.attach(&mut board)?;
    let keyboard = board.attach("keyboard", legacy::I8042::new())?;
    let below = layout.ram_bytes().min(MMIO_HOLE_START);
    board.attach("rtc", legacy::Cmos::new(below, layout.ram_bytes() - below))?;
    board.attach("post", legacy::DebugPort::post())?;
    board.attach("exit", legacy::DebugExit::new())?;
    board.attach("pvpanic", legacy::Pvpanic::new())?;
    let power = board.attach("power", legacy::AcpiPower::new())?;
    virtio::bus(&mut board, config, layout, bits)?;
    let disks = storage::attach(&mut board, config)?;
    let told = share::attach(&mut board, config)?;
    let nets = network::attach(&mut board, config)?;
    sockets::attach(&mut board, config, consoles)?;
    vhost_user::attach(&mut board, config)?;
    let memory = beside.attach(&mut board, config)?;
    let terminal = consoles.attach_terminals(&mut board, config)?;
    let balloon = balloon::attach(&mut board, config)?;
    let buttons = Buttons { power, keyboard };
    Ok((board.freeze()?, Controls { buttons, memory, balloon, disks, nets, terminal, told }))
}

/// As [`Config::check`] has it; one for a configuration that was not checked.
fn io_threads(config: &Config) -> NonZeroUsize {
    let count = usize::try_from(config.io_threads).ok();
    count.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

fn vcpus(
    vm: &dyn Vm,
    topology: Topology,
    first: &arch::CpuImage,
) -> Result<Vec<Box<dyn hypervisor::Vcpu>>, BuildError> {
    let cpuid = CpuidPolicy::host(topology);
    let mut cpus = Vec::new();
    for index in 0..topology.cpus() {
        let mut cpu = vm.create_vcpu(index)?;
        cpu.start(&CpuStart::for_index(index, first), &cpuid)
            .map_err(|source| BuildError::Start { index, source })?;
        cpus.push(cpu);
    }
    Ok(cpus)
}
