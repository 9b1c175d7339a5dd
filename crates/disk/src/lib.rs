#![doc = include_str!("../README.md")]
#![deny(unsafe_code)] // allowed in `qcow2::storage` and `uring` only: see there

mod contract;
mod direct;
mod file;
mod lock;
mod memory;
mod open;
mod qcow2;
mod raw;
mod uring;

pub use contract::{Bytes, Disk, SECTOR};
pub use memory::Memory;
pub use open::{Access, OpenError};
pub use qcow2::{Backing, BackingError, FormatError, Qcow2};
pub use raw::Raw;
pub use uring::{Operation, Uring};
