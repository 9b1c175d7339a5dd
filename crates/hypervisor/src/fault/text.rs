//! Faults in words.

use std::fmt::{Display, Formatter, Result};

use iced_x86::{Decoder, DecoderOptions, FastFormatter};

use super::{Fault, FaultReason, Registers};

/// `KVM_EXIT_*` by number, without that prefix (`linux/kvm.h`).
const EXITS: [&str; 40] = [
    "UNKNOWN",
    "EXCEPTION",
    "IO",
    "HYPERCALL",
    "DEBUG",
    "HLT",
    "MMIO",
    "IRQ_WINDOW_OPEN",
    "SHUTDOWN",
    "FAIL_ENTRY",
    "INTR",
    "SET_TPR",
    "TPR_ACCESS",
    "S390_SIEIC",
    "S390_RESET",
    "DCR",
    "NMI",
    "INTERNAL_ERROR",
    "OSI",
    "PAPR_HCALL",
    "S390_UCONTROL",
    "WATCHDOG",
    "S390_TSCH",
    "EPR",
    "SYSTEM_EVENT",
    "S390_STSI",
    "IOAPIC_EOI",
    "HYPERV",
    "ARM_NISV",
    "X86_RDMSR",
    "X86_WRMSR",
    "DIRTY_RING_FULL",
    "AP_RESET_HOLD",
    "X86_BUS_LOCK",
    "XEN",
    "RISCV_SBI",
    "RISCV_CSR",
    "NOTIFY",
    "LOONGARCH_IOCSR",
    "MEMORY_FAULT",
];

/// `KVM_INTERNAL_ERROR_*` from 1 on, and what they mean.
const INTERNAL_ERRORS: [(&str, &str); 4] = [
    ("EMULATION", "it had to emulate an instruction and could not"),
    ("SIMUL_EX", "two exceptions happened at the same time"),
    ("DELIVERY_EV", "the guest exited while an event was being delivered to it"),
    (
        "UNEXPECTED_EXIT_REASON",
        "the processor gave a reason for leaving the guest that KVM does not know",
    ),
];

/// Intel's reason for a failed entry: the guest's state is invalid (SDM vol. 3C, appendix C).
const INVALID_GUEST_STATE: u64 = 0x8000_0021;

const NAMES: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.reason.fmt(f)?;
        if let Some(registers) = &self.registers {
            write!(f, "\n{registers}")?;
        }
        if self.code.is_empty() {
            return f.write_str("\n  the instruction cannot be read: no RAM is mapped there");
        }
        f.write_str("\n  code")?;
        for byte in &self.code {
            write!(f, " {byte:02x}")?;
        }
        match &self.registers {
            Some(registers) => write!(f, "\n  at rip: {}", decoded(&self.code, registers)),
            None => Ok(()),
        }
    }
}

impl Display for FaultReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::TripleFault => f.write_str(
                "the guest triple-faulted: it took an exception, had no working handler for it, \
                 and none for that failure either",
            ),
            Self::EntryFailed { reason, cpu } => {
                write!(
                    f,
                    "the processor refused to enter the guest (reason {reason:#x}, host CPU {cpu})"
                )?;
                match *reason {
                    INVALID_GUEST_STATE => {
                        f.write_str(": the guest's registers contradict each other")
                    }
                    _ => Ok(()),
                }
            }
            Self::InternalError { suberror, data } => internal_error(f, *suberror, data),
            Self::GuestCrash => f.write_str("the guest reported that it crashed"),
            Self::Unexpected { exit } => {
                let name = usize::try_from(*exit).ok().and_then(|exit| EXITS.get(exit));
                write!(f, "KVM left the guest for a reason that nothing asked for: ")?;
                match name {
                    Some(name) => write!(f, "KVM_EXIT_{name} ({exit})"),
                    None => write!(f, "exit {exit}, which this version does not know"),
                }
            }
        }
    }
}

fn internal_error(f: &mut Formatter<'_>, suberror: u32, data: &[u64]) -> Result {
    let known = usize::try_from(suberror)
        .ok()
        .and_then(|number| INTERNAL_ERRORS.get(number.checked_sub(1)?));
    match known {
        Some((name, meaning)) => {
            write!(f, "KVM gave up on the guest: {meaning} (KVM_INTERNAL_ERROR_{name})")?;
        }
        None => write!(f, "KVM gave up on the guest: internal error {suberror}")?,
    }
    for (number, word) in data.iter().enumerate() {
        write!(f, "{} {word:#x}", if number == 0 { "; data" } else { "," })?;
    }
    Ok(())
}

impl Display for Registers {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (selector, base) = self.cs;
        let Self { rip, rflags, efer, bits, control: [cr0, cr2, cr3, cr4], .. } = self;
        write!(
            f,
            "  rip {rip:016x}  rflags {rflags:08x}  cs {selector:04x} (base {base:x}, {bits}-bit)"
        )?;
        for (number, (name, value)) in NAMES.iter().zip(self.general).enumerate() {
            f.write_str(if number % 4 == 0 { "\n" } else { "" })?;
            write!(f, "  {name:>3} {value:016x}")?;
        }
        write!(f, "\n  cr0 {cr0:08x}  cr2 {cr2:016x}  cr3 {cr3:016x}  cr4 {cr4:08x}  efer {efer:x}")
    }
}

/// The first instruction, as an assembler would write it.
fn decoded(code: &[u8], registers: &Registers) -> String {
    let mut decoder = Decoder::with_ip(registers.bits, code, registers.rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return "no valid instruction".into();
    }
    let mut text = String::new();
    FastFormatter::new().format(&instruction, &mut text);
    text
}
