//! A guest that cannot go on. `Display` tells it in words.

mod text;

/// Guest execution cannot go on: why, and where the vCPU was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub reason: FaultReason,
    /// The registers, where the host still has them (some processors lose them in a triple fault).
    pub registers: Option<Registers>,
    /// The bytes at the instruction pointer, as far as they can be read.
    pub code: Vec<u8>,
}

/// Why guest execution cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultReason {
    /// An exception while starting the handler of an exception, twice over.
    TripleFault,
    /// The processor refused to enter the guest.
    EntryFailed {
        /// The processor's reason.
        reason: u64,
        /// The host's processor.
        cpu: u32,
    },
    /// KVM gave up.
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
        /// What KVM added.
        data: Vec<u64>,
    },
    /// The guest reported its own crash to the hypervisor.
    GuestCrash,
    /// An exit that nothing here asked for.
    Unexpected {
        /// `KVM_EXIT_*`.
        exit: u32,
    },
}

/// `KVM_INTERNAL_ERROR_EMULATION`: KVM met an instruction that it had to emulate and could not.
const EMULATION: u32 = 1;
/// First word of its data: the instruction's bytes follow, after their number.
const HAS_INSTRUCTION: u64 = 1;

impl FaultReason {
    /// The bytes of the instruction that KVM could not emulate, if it told.
    pub fn instruction(&self) -> Option<Vec<u8>> {
        let Self::InternalError { suberror: EMULATION, data } = self else { return None };
        let [flags, words @ ..] = data.as_slice() else { return None };
        let mut bytes = words.iter().flat_map(|word| word.to_le_bytes());
        let len = bytes.next().filter(|_| flags & HAS_INSTRUCTION != 0)?;
        Some(bytes.take(len.min(15).into()).collect())
    }
}

/// The registers of a vCPU, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8 to R15.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// CR0, CR2, CR3, CR4.
    pub control: [u64; 4],
    /// Extended feature enable register.
    pub efer: u64,
    /// Code segment: selector and base.
    pub cs: (u16, u64),
    /// Bits of an instruction address: 16, 32 or 64.
    pub bits: u32,
}

#[cfg(test)]
mod tests;
