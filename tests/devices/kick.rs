//! What a notification costs: no exit to user space, by KVM itself.

use std::{error::Error, sync::Arc};

use arch::{CpuImage, CpuStart, CpuidPolicy, DescriptorTable, Layout, Node, Topology};
use board::{Board, BoardBuilder};
use bus::Buses;
use hypervisor::{Hypervisor, Vcpu, Vm, VmConfig, kvm::Kvm};
use memory::{Backing, Bytes, GuestAddress, GuestMemory, Ram};
use vcpu::{Step, Stop};
use virtio_rng::Rng;

/// How often the guest notifies the device.
const KICKS: u32 = 1000;
const CODE: u64 = 0x7000;
/// Descriptors, available ring, used ring and the buffer of the one queue.
const QUEUE: [u64; 4] = [0x1000, 0x2000, 0x3000, 0x4000];

struct Machine {
    vm: Arc<dyn Vm>,
    memory: GuestMemory,
    board: Board,
}

fn machine(on_pci: bool) -> Result<Machine, Box<dyn Error>> {
    let layout = Layout::for_ram(64 << 10)?;
    let ram = Ram::new(&layout.ram, Backing::Anonymous)?;
    let vm = Kvm::open()?.create_vm(&VmConfig::default())?;
    for region in ram.regions() {
        vm.map(region)?;
    }
    let mut board = BoardBuilder::new(vm.clone(), ram.memory(), &layout)?;
    let rng = Rng::new(std::io::repeat(7));
    if on_pci {
        board.pci(None)?;
        board.attach("rng", virtio::pci(rng))?;
    } else {
        board.attach("rng", virtio::mmio(rng))?;
    }
    board.attach("exit", legacy::DebugExit::new())?;
    Ok(Machine { vm, memory: ram.memory(), board: board.freeze()? })
}

/// Sets the device and its queue up, as a driver does, and offers one buffer of 64 bytes.
fn offer(buses: &Buses, memory: &GuestMemory, base: u64) -> Result<(), Box<dyn Error>> {
    let [descriptors, available, used, _] = QUEUE;
    let places = [(0x080, descriptors), (0x090, available), (0x0a0, used)];
    let mut writes: Vec<(u64, u32)> = vec![(0x070, 1), (0x070, 3), (0x024, 1), (0x020, 1)];
    writes.extend([(0x070, 11), (0x030, 0), (0x038, 8)]);
    for (register, place) in places {
        writes.push((register, u32::try_from(place)?));
    }
    writes.extend([(0x044, 1), (0x070, 15)]);
    for (register, value) in writes {
        buses.mmio.write(base + register, &value.to_le_bytes());
    }
    fill(memory)
}

/// One chain on the ring: a buffer of 64 bytes to write.
fn fill(memory: &GuestMemory) -> Result<(), Box<dyn Error>> {
    let [descriptors, available, _, buffer] = QUEUE;
    memory.write_obj([buffer, 64 | 2 << 32], GuestAddress(descriptors))?;
    memory.write_obj([0_u16, 1, 0], GuestAddress(available))?;
    Ok(())
}

/// The same for the device on PCI, the first behind the host bridge: the address of its doorbell.
fn offer_on_pci(buses: &Buses, memory: &GuestMemory) -> Result<u32, Box<dyn Error>> {
    let select = |register: u32| {
        let address = 0x8000_0000 | 1 << 11 | register;
        buses.pio.write(0xcf8, &address.to_le_bytes());
    };
    select(0x04);
    buses.pio.write(0xcfc, &[6]);
    select(0x10);
    let mut bar = [0; 4];
    buses.pio.read(0xcfc, &mut bar);
    let bar = u32::from_le_bytes(bar) & !0xf;
    let places = [(0x20, QUEUE[0]), (0x28, QUEUE[1]), (0x30, QUEUE[2])];
    // Offset in the BAR, width, value.
    let mut writes: Vec<(u32, usize, u64)> = vec![(0x14, 1, 1), (0x14, 1, 3), (0x08, 4, 1)];
    writes.extend([(0x0c, 4, 1), (0x14, 1, 11), (0x16, 2, 0), (0x18, 2, 8)]);
    writes.extend(places.map(|(register, place)| (register, 4, place)));
    writes.extend([(0x1c, 2, 1), (0x14, 1, 15)]);
    for (register, width, value) in writes {
        let bytes = value.to_le_bytes();
        buses.mmio.write((bar + register).into(), bytes.get(..width).ok_or("a width")?);
    }
    fill(memory)?;
    Ok(bar + 0x2000)
}

/// A guest in protected mode that writes 0 to `register` `KICKS` times and ends with status 1.
fn guest(register: u32) -> Vec<u8> {
    let pieces: [&[u8]; 8] = [
        &[0xbf],
        &register.to_le_bytes(), // mov edi, register
        &[0xb9],
        &KICKS.to_le_bytes(),                  // mov ecx, KICKS
        &[0x31, 0xc0],                         // xor eax, eax
        &[0x89, 0x07],                         // kick: mov [edi], eax
        &[0xe2, 0xfc],                         // loop kick
        &[0x66, 0xba, 0xf4, 0x00, 0xee, 0xf4], // mov dx, 0xf4; out dx, al; hlt
    ];
    pieces.concat()
}

fn cpu(vm: &Arc<dyn Vm>) -> Result<Box<dyn Vcpu>, Box<dyn Error>> {
    let gdt = DescriptorTable { base: 0x500, limit: 0x1f };
    let image = CpuImage::protected_mode(CODE, gdt);
    let mut cpu = vm.create_vcpu(0)?;
    let start = CpuStart::for_index(0, &image);
    cpu.start(&start, &CpuidPolicy::host(Topology::new(1, 1, 1)?))?;
    Ok(cpu)
}

/// Runs the guest to its end: how it ended, and how many exits reached user space.
fn run(cpu: &mut dyn Vcpu, buses: &Buses) -> Result<(Stop, u32), Box<dyn Error>> {
    let mut exits = 0;
    loop {
        exits += 1;
        if let Step::Stop(stop) = vcpu::step(cpu, buses)? {
            return Ok((stop, exits));
        }
    }
}

#[test]
fn a_kick_makes_no_exit_to_user_space() {
    if !harness::has_kvm("a_kick_makes_no_exit_to_user_space") {
        return;
    }
    let Machine { vm, memory, board } = machine(false).unwrap();
    let [Node::VirtioMmio { base, .. }, ..] = board.nodes[..] else {
        panic!("announced: {:?}", board.nodes)
    };
    let buses = Arc::clone(&board.buses);
    offer(&buses, &memory, base).unwrap();
    let doorbell = u32::try_from(base + 0x50).unwrap();
    assert_eq!(kicks(Machine { vm, memory, board }, doorbell).unwrap(), EXPECTED);
}

#[test]
fn a_kick_on_pci_makes_no_exit_to_user_space() {
    if !harness::has_kvm("a_kick_on_pci_makes_no_exit_to_user_space") {
        return;
    }
    let machine = machine(true).unwrap();
    let doorbell = offer_on_pci(&machine.board.buses, &machine.memory).unwrap();
    assert_eq!(kicks(machine, doorbell).unwrap(), EXPECTED);
}

/// A guest kicks at `doorbell`, where one chain was offered: how it ended, after how many exits, and what
/// the chain then holds, which shows that the kicks were not lost.
fn kicks(
    Machine { vm, memory, mut board }: Machine,
    doorbell: u32,
) -> Result<(Stop, u32, [u64; 8]), Box<dyn Error>> {
    let buses = Arc::clone(&board.buses);
    memory.write_slice(&guest(doorbell), GuestAddress(CODE))?;
    let (stop, exits) = run(&mut *cpu(&vm)?, &buses)?;
    let until = device::EventFd::new(0)?;
    std::thread::scope(|scope| {
        let served = scope.spawn(|| board.serve(&until));
        let used = || memory.read_obj::<u16>(GuestAddress(QUEUE[2] + 2));
        while used().is_ok_and(|used| used == 0) {
            std::thread::yield_now();
        }
        until.write(1)?;
        Ok::<_, Box<dyn Error>>(served.join().map_err(|_| "the board panics")??)
    })?;
    Ok((stop, exits, memory.read_obj(GuestAddress(QUEUE[3]))?))
}

/// One exit that ends the run, and a chain full of what the device gives.
const EXPECTED: (Stop, u32, [u64; 8]) = (Stop::Exit(1), 1, [0x0707_0707_0707_0707; 8]);
