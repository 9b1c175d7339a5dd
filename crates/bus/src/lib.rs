#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod device;
mod irq;
mod range;
mod table;

pub use device::{AccessError, Action, BusDevice, MutBusDevice};
pub use irq::IrqLine;
pub use range::{Mmio, Pio, Range, RangeError, Space};
pub use table::{Bus, BusBuilder, Conflict, Conflicts, Unclaimed};
pub use vmm_sys_util::eventfd::EventFd;

/// The two buses of a machine: the port space and the memory space.
#[derive(Debug, Default)]
pub struct Buses {
    /// I/O ports, reached by `in` and `out`.
    pub pio: Bus<Pio>,
    /// Guest physical addresses that no RAM answers.
    pub mmio: Bus<Mmio>,
}
