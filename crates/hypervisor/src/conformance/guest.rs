//! What every backend that runs code must do: guests of a few instructions in real mode.

mod code;
mod exits;
mod interrupts;
mod pages;
mod resume;

use std::sync::Arc;

use arch::{CpuImage, CpuStart};
use memory::{Bytes, GuestMemoryRegion, MemoryRegionAddress, Region};

use super::{machine, policy, ram};
use crate::{Exit, Fault, Hypervisor, Vcpu, Vm};

pub use exits::{
    a_guest_that_spins_is_interrupted, a_single_step_stops_after_each_instruction,
    a_triple_fault_is_told_with_registers, accesses_outside_ram_have_their_length,
    breakpoints_stop_before_their_instruction, port_accesses_have_their_width,
    strings_of_port_accesses_keep_their_width,
};
pub use interrupts::{
    a_halted_vcpu_wakes_by_its_interrupt, a_message_interrupts,
    an_asserted_line_interrupts_until_it_is_low, doorbells_ring_without_an_exit,
    doorbells_that_were_given_up_are_exits,
};
pub use pages::{the_dirty_log_names_written_pages, writes_to_read_only_memory_are_exits};
pub use resume::{
    a_port_read_under_way_goes_on_in_another_machine, an_access_under_way_is_not_saved,
};

/// Everything that needs guest code.
pub fn all(hypervisor: &dyn Hypervisor) {
    port_accesses_have_their_width(hypervisor);
    strings_of_port_accesses_keep_their_width(hypervisor);
    accesses_outside_ram_have_their_length(hypervisor);
    a_triple_fault_is_told_with_registers(hypervisor);
    a_guest_that_spins_is_interrupted(hypervisor);
    a_single_step_stops_after_each_instruction(hypervisor);
    breakpoints_stop_before_their_instruction(hypervisor);
    a_halted_vcpu_wakes_by_its_interrupt(hypervisor);
    an_asserted_line_interrupts_until_it_is_low(hypervisor);
    a_message_interrupts(hypervisor);
    doorbells_ring_without_an_exit(hypervisor);
    doorbells_that_were_given_up_are_exits(hypervisor);
    writes_to_read_only_memory_are_exits(hypervisor);
    the_dirty_log_names_written_pages(hypervisor);
    an_access_under_way_is_not_saved(hypervisor);
    a_port_read_under_way_goes_on_in_another_machine(hypervisor);
}

/// Where the code is, and its stack.
const CODE: u16 = 0x1000;
const STACK: u16 = 0x8000;
/// Size of RAM, from address 0.
const RAM: usize = 0x1_0000;

/// An exit without its borrow.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    In { port: u16, width: usize, len: usize },
    Out { port: u16, width: usize, data: Vec<u8> },
    Read { addr: u64, len: usize },
    Write { addr: u64, data: Vec<u8> },
    Debug(u64),
    Fault(Box<Fault>),
    Interrupted,
    Other(String),
}

/// A machine with one vCPU at the first byte of some code.
struct Guest {
    vm: Arc<dyn Vm>,
    vcpu: Box<dyn Vcpu>,
    ram: Arc<Region>,
}

impl Guest {
    fn new(hypervisor: &dyn Hypervisor, code: &[u8]) -> Self {
        Self::with_image(hypervisor, code, &CpuImage::real_mode(0, CODE, STACK))
    }

    fn with_image(hypervisor: &dyn Hypervisor, code: &[u8], image: &CpuImage) -> Self {
        let vm = machine(hypervisor);
        let ram = ram(0, RAM);
        vm.map(Arc::clone(&ram)).expect("RAM is mapped");
        let mut vcpu = vm.create_vcpu(0).expect("a vCPU is created");
        vcpu.start(&CpuStart::for_index(0, image), &policy()).expect("a vCPU is started");
        let guest = Self { vm, vcpu, ram };
        guest.poke(u64::from(CODE), code);
        guest
    }

    fn poke(&self, at: u64, bytes: &[u8]) {
        self.ram.write_slice(bytes, MemoryRegionAddress(at)).expect("RAM is written");
    }

    fn peek<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.ram.read_slice(&mut bytes, MemoryRegionAddress(at)).expect("RAM is read");
        bytes
    }

    /// The real-mode handler of interrupt `vector`, in segment 0.
    fn handler(&self, vector: u64, offset: u16, code: &[u8]) {
        let [low, high] = offset.to_le_bytes();
        self.poke(4 * vector, &[low, high, 0, 0]);
        self.poke(u64::from(offset), code);
    }

    /// The next exit; reads get the first bytes of `answer`, over and over.
    fn answering(&mut self, answer: &[u8]) -> Seen {
        let fill = |data: &mut [u8]| {
            data.iter_mut().zip(answer.iter().cycle()).for_each(|(to, from)| *to = *from);
            data.len()
        };
        match self.vcpu.run().expect("the vCPU runs") {
            Exit::PioIn { port, width, data } => Seen::In { port, width, len: fill(data) },
            Exit::PioOut { port, width, data } => Seen::Out { port, width, data: data.to_vec() },
            Exit::MmioRead { addr, data } => Seen::Read { addr, len: fill(data) },
            Exit::MmioWrite { addr, data } => Seen::Write { addr, data: data.to_vec() },
            Exit::Debug { pc } => Seen::Debug(pc),
            Exit::Fault(fault) => Seen::Fault(fault),
            Exit::Interrupted => Seen::Interrupted,
            other => Seen::Other(format!("{other:?}")),
        }
    }

    fn next(&mut self) -> Seen {
        self.answering(&[])
    }

    fn pages(&self) -> u64 {
        self.ram.len() >> 12
    }
}

fn out(port: u16, data: &[u8]) -> Seen {
    Seen::Out { port, width: data.len(), data: data.to_vec() }
}
