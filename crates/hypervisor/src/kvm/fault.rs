//! What can be learnt about a vCPU that cannot go on.

use kvm_bindings::{kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;
use memory::Bytes;

use super::machine::Machine;
use crate::{Exit, Fault, FaultReason, Registers};

/// The longest instruction has 15 bytes; one more shows what follows.
const CODE: usize = 16;
/// Extended feature enable register: long mode is active.
const EFER_LMA: u64 = 1 << 10;

/// The exit of a vCPU that cannot go on, with what the host still has; what it does not give is left
/// out. Off the path of ordinary exits: this may allocate.
#[cold]
pub(super) fn exit(vcpu: &VcpuFd, machine: &Machine, reason: FaultReason) -> Exit<'static> {
    let registers = match (vcpu.get_regs(), vcpu.get_sregs()) {
        (Ok(regs), Ok(sregs)) => Some(registers(&regs, &sregs)),
        _ => None,
    };
    let read = || code(vcpu, machine, &registers?);
    let code = read().or_else(|| reason.instruction()).unwrap_or_default();
    Exit::Fault(Box::new(Fault { reason, registers, code }))
}

fn registers(regs: &kvm_regs, sregs: &kvm_sregs) -> Registers {
    Registers {
        general: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rsp, regs.rbp,
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        rip: regs.rip,
        rflags: regs.rflags,
        control: [sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4],
        efer: sregs.efer,
        cs: (sregs.cs.selector, sregs.cs.base),
        bits: match (sregs.efer & EFER_LMA != 0 && sregs.cs.l != 0, sregs.cs.db != 0) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        },
    }
}

/// The bytes at the instruction pointer, as far as they are in mapped pages.
fn code(vcpu: &VcpuFd, machine: &Machine, registers: &Registers) -> Option<Vec<u8>> {
    let base = if registers.bits == 64 { 0 } else { registers.cs.1 };
    let linear = base.wrapping_add(registers.rip);
    let mut code = Vec::with_capacity(CODE);
    for offset in 0..CODE as u64 {
        // Byte by byte: the instruction may straddle two pages, the second of which may be missing.
        let Some(byte) = byte(vcpu, machine, linear.wrapping_add(offset)) else { break };
        code.push(byte);
    }
    (!code.is_empty()).then_some(code)
}

fn byte(vcpu: &VcpuFd, machine: &Machine, linear: u64) -> Option<u8> {
    let translation = vcpu.translate_gva(linear).ok().filter(|found| found.valid != 0)?;
    let (region, offset) = machine.slots.find(translation.physical_address)?;
    region.read_obj(offset).ok()
}
