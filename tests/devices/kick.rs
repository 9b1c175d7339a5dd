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

fn machine() -> Result<Machine, Box<dyn Error>> {
    let layout = Layout::for_ram(64 << 10)?;
    let ram = Ram::new(&layout.ram, Backing::Anonymous)?;
    let vm = Kvm::open()?.create_vm(&VmConfig::default())?;
    for region in ram.regions() {
        vm.map(region)?;
    }
    let mut board = BoardBuilder::new(vm.clone(), ram.memory(), &layout)?;
    board.attach("rng", virtio::mmio(Rng::new(std::io::repeat(7))))?;
    board.attach("exit", legacy::DebugExit::new())?;
    Ok(Machine { vm, memory: ram.memory(), board: board.freeze()? })
}

/// Sets the device and its queue up, as a driver does, and offers one buffer of 64 bytes.
fn offer(buses: &Buses, memory: &GuestMemory, base: u64) -> Result<(), Box<dyn Error>> {
    let [descriptors, available, used, buffer] = QUEUE;
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
    memory.write_obj([buffer, 64 | 2 << 32], GuestAddress(descriptors))?;
    memory.write_obj([0_u16, 1, 0], GuestAddress(available))?;
    Ok(())
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
    let Machine { vm, memory, mut board } = machine().unwrap();
    let [Node::VirtioMmio { base, .. }, ..] = board.nodes[..] else {
        panic!("announced: {:?}", board.nodes)
    };
    let buses = Arc::clone(&board.buses);
    offer(&buses, &memory, base).unwrap();
    memory.write_slice(&guest(u32::try_from(base + 0x50).unwrap()), GuestAddress(CODE)).unwrap();

    let ended = run(&mut *cpu(&vm).unwrap(), &buses).unwrap();

    assert_eq!(ended, (Stop::Exit(1), 1), "{KICKS} kicks, and one exit that ends the run");
    // The kicks were not lost: the device serves what was offered.
    let until = device::EventFd::new(0).unwrap();
    std::thread::scope(|scope| {
        let served = scope.spawn(|| board.serve(&until));
        while memory.read_obj::<u16>(GuestAddress(QUEUE[2] + 2)).unwrap() == 0 {
            std::thread::yield_now();
        }
        until.write(1).unwrap();
        served.join().unwrap().unwrap();
    });
    assert_eq!(
        memory.read_obj::<[u64; 8]>(GuestAddress(QUEUE[3])).unwrap(),
        [0x0707_0707_0707_0707; 8]
    );
}
