#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod acpi_power;
mod cmos;
#[cfg(test)]
mod conformance;
mod debug_exit;
mod debug_port;
mod i8042;
mod line;
mod output;
mod pvpanic;
mod serial;
mod slice;
mod tally;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use acpi_power::{AcpiPower, PowerButton, SavedAcpiPower};
pub use cmos::{Cmos, SavedCmos};
pub use debug_exit::{DebugExit, SavedDebugExit};
pub use debug_port::{DebugHandle, DebugPort, SavedDebugPort};
pub use i8042::{I8042, Keys, SavedI8042};
pub use pvpanic::{Pvpanic, PvpanicHandle, SavedPvpanic};
pub use serial::{Backend, Com, FileMode, SavedSerial, Serial, SerialHandle, Stream};

/// Locks a device. Nothing here panics while it holds a lock, so a poisoned one is as good.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
