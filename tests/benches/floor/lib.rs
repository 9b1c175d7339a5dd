//! The floor: a machine of raw ioctls, and the guests that run on it and on Purlin alike.
//!
//! By intent it uses none of our crates and no binding but the layouts of the kernel's structures, so
//! that what it costs is what the host costs. It is the only place of the benchmarks with unsafe
//! code.

mod alloc;
pub mod guest;
mod ioctl;
mod machine;
mod mapping;
pub mod packets;
mod start;
mod uring;

pub use alloc::{Counting, allocations};
pub use machine::{Machine, Seen};
pub use uring::Reads;
