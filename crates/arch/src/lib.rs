#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod node;
mod topology;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use node::{IntxLines, IoAddr, Node, Window};
pub use topology::{Topology, TopologyError};
// The only place above `hypervisor::kvm` that names an architecture.
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
