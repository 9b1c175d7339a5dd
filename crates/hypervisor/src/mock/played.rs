//! Exits that can be written down.

use crate::Fault;

/// One entry of a [`Script`](super::Script).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Played {
    /// [`Exit::PioIn`](crate::Exit::PioIn) of `count` reads.
    PioIn {
        /// The port.
        port: u16,
        /// Bytes of one access.
        width: usize,
        /// Accesses.
        count: usize,
    },
    /// [`Exit::PioOut`](crate::Exit::PioOut).
    PioOut {
        /// The port.
        port: u16,
        /// Bytes of one access.
        width: usize,
        /// What the guest writes.
        data: Vec<u8>,
    },
    /// [`Exit::MmioRead`](crate::Exit::MmioRead).
    MmioRead {
        /// Guest physical address.
        addr: u64,
        /// Bytes.
        len: usize,
    },
    /// [`Exit::MmioWrite`](crate::Exit::MmioWrite).
    MmioWrite {
        /// Guest physical address.
        addr: u64,
        /// What the guest writes.
        data: Vec<u8>,
    },
    /// [`Exit::Halted`](crate::Exit::Halted).
    Halted,
    /// [`Exit::PowerOff`](crate::Exit::PowerOff).
    PowerOff,
    /// [`Exit::Reset`](crate::Exit::Reset).
    Reset,
    /// [`Exit::Debug`](crate::Exit::Debug).
    Debug {
        /// Linear address of the next instruction.
        pc: u64,
    },
    /// [`Exit::Fault`](crate::Exit::Fault).
    Fault(Box<Fault>),
    /// [`Exit::Interrupted`](crate::Exit::Interrupted), without a kick.
    Interrupted,
    /// The guest computes, or sleeps, until the vCPU is kicked; then `Interrupted`.
    Wait,
    /// The host fails: [`RunError::Host`](crate::RunError::Host).
    Fail,
}

impl Played {
    /// One port read.
    pub fn pio_in(port: u16, width: usize) -> Self {
        Self::PioIn { port, width, count: 1 }
    }

    /// One port write of all of `data`.
    pub fn pio_out(port: u16, data: &[u8]) -> Self {
        Self::PioOut { port, width: data.len(), data: data.to_vec() }
    }

    /// One memory-mapped write.
    pub fn mmio_write(addr: u64, data: &[u8]) -> Self {
        Self::MmioWrite { addr, data: data.to_vec() }
    }

    /// How many bytes the guest reads.
    pub(super) fn reads(&self) -> usize {
        match self {
            Self::PioIn { width, count, .. } => width.saturating_mul(*count),
            Self::MmioRead { len, .. } => *len,
            _ => 0,
        }
    }
}
