//! A VMM for stock Linux kernels in a screenful: `sixty KERNEL [INITRD]`.

use std::{env, error::Error, fs::File, io};

use arch::{CpuStart, CpuidPolicy, Layout, Topology};
use board::BoardBuilder;
use boot::{Payload, Platform};
use hypervisor::{Hypervisor, VmConfig, kvm::Kvm};
use memory::{Backing, Ram};
use vcpu::{Stop, Vcpus};

fn main() -> Result<(), Box<dyn Error>> {
    let kernel = env::args_os().nth(1).ok_or("usage: sixty KERNEL [INITRD]")?;
    let initrd = env::args_os().nth(2);

    // The machine: an address layout, RAM that fits it, a VM that sees the RAM.
    let layout = Layout::for_ram(512 << 20)?;
    let ram = Ram::new(&layout.ram, Backing::Anonymous)?;
    let vm = Kvm::open()?.create_vm(&VmConfig::default())?;
    for region in ram.regions() {
        vm.map(region)?;
    }

    // The board: each device claims its own ports and interrupt, and announces itself.
    let mut board = BoardBuilder::new(vm.clone(), ram.memory(), &layout)?;
    board.attach("com1", legacy::Serial::com1(io::stdout()).input(io::stdin()))?;
    board.attach("keyboard", legacy::I8042::new())?;
    board.attach("power", legacy::AcpiPower::new())?;
    let mut board = board.freeze()?;

    // The payload: a kernel and its tables in RAM, and what the first CPU must look like.
    let topology = Topology::flat(2)?;
    let platform = Platform { layout: &layout, topology: &topology, nodes: &board.nodes };
    let mut payload = Payload::new(File::open(kernel)?);
    payload.initrd = initrd.map(File::open).transpose()?;
    payload.cmdline = "console=ttyS0 panic=-1".into();
    let first = boot::load(&ram.memory(), &platform, &payload)?;

    // The processors, each parked on its own thread.
    let cpuid = CpuidPolicy::host(topology);
    let mut cpus = Vec::new();
    for index in 0..topology.cpus() {
        let mut cpu = vm.create_vcpu(index)?;
        cpu.start(&CpuStart::for_index(index, &first), &cpuid)?;
        cpus.push(cpu);
    }
    let cpus = Vcpus::spawn(cpus, board.buses.clone())?;

    // Run: this thread serves every device until a vCPU stops the machine.
    cpus.resume();
    board.serve(cpus.stop_event())?;
    match cpus.join()? {
        Stop::PowerOff => Ok(()),
        stop => Err(stop.to_string().into()),
    }
}
