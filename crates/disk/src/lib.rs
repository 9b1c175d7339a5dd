#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod contract;
mod lock;
mod memory;
mod open;
mod raw;

pub use contract::{Disk, SECTOR};
pub use memory::Memory;
pub use open::{Access, OpenError};
pub use raw::Raw;
