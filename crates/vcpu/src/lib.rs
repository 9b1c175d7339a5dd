#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod step;
mod thread;
mod vcpus;

pub use step::{Step, Stop, step};
pub use vcpus::{Paused, SpawnError, Vcpus, VcpusError};
pub use vmm_sys_util::eventfd::EventFd;
