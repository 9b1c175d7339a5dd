//! Why guest execution stopped, as data that is answered in place.

use crate::Fault;

/// One return from guest mode.
///
/// The read variants carry the buffer that the next [`run`](crate::Vcpu::run) hands to the guest, so
/// that an answer cannot go to the wrong exit.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit<'a> {
    /// `in` or `rep ins`: fill `data`, one port read of `width` bytes after the other.
    /// `data.len()` is a multiple of `width`.
    PioIn {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        width: usize,
        /// What the guest will read.
        data: &'a mut [u8],
    },
    /// `out` or `rep outs`: take `data`, one port write of `width` bytes after the other.
    /// `data.len()` is a multiple of `width`.
    PioOut {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        width: usize,
        /// What the guest wrote.
        data: &'a [u8],
    },
    /// A read of 1 to 8 bytes where no RAM is.
    MmioRead {
        /// Guest physical address.
        addr: u64,
        /// What the guest will read.
        data: &'a mut [u8],
    },
    /// A write of 1 to 8 bytes where no writable RAM is.
    MmioWrite {
        /// Guest physical address.
        addr: u64,
        /// What the guest wrote.
        data: &'a [u8],
    },
    /// The vCPU halted and the backend has no interrupt controller of its own that could wake it.
    Halted,
    /// The guest asked its hypervisor to power the machine off.
    PowerOff,
    /// The guest asked its hypervisor to reset the machine.
    Reset,
    /// A breakpoint or single step that [`Debugger`](crate::Debugger) asked for, before the
    /// instruction at `pc`.
    Debug {
        /// Linear address of the next instruction.
        pc: u64,
    },
    /// Guest execution cannot go on.
    Fault(Box<Fault>),
    /// Nothing is half done. The only exit after which state may be saved.
    Interrupted,
}

impl Exit<'_> {
    /// Whether the guest waits for the VMM in the middle of an instruction, which only the next
    /// [`run`](crate::Vcpu::run) completes.
    pub(crate) fn is_access(&self) -> bool {
        matches!(
            self,
            Self::PioIn { .. }
                | Self::PioOut { .. }
                | Self::MmioRead { .. }
                | Self::MmioWrite { .. }
        )
    }
}
