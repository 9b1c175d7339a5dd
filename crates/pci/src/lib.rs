#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod access;
mod bridge;
mod capability;
mod config;
mod error;
mod host;
mod hotplug;
mod intx;
mod msix;
mod place;
mod root;
mod routes;
mod saved;
mod slot;
mod tally;
#[cfg(test)]
mod testing;

pub use arch::IntxLines;
pub use capability::{express_endpoint, vendor_specific};
pub use config::ConfigSpace;
pub use device::{
    Bar, BarDoorbell, BarKind, Bdf, Capability, CapabilityWindow, Identity, Intx, MsixLayout,
    PciFunction,
};
pub use error::{FunctionError, InsertError, RemoveError};
pub use host::{Host, Message, MsiVector};
pub use msix::{Msix, SavedMsix};
pub use root::{Root, RootComplex};
pub use saved::{SavedFunction, SavedRoot};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic elsewhere leaves no broken state behind: every change here is complete or not made.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
