#![doc = include_str!("../README.md")]
#![deny(unsafe_code)] // allowed in `kvm` only: see there

mod exit;
mod fault;
mod state;
mod vcpu;
mod vm;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(target_os = "linux")]
pub mod kvm;
pub mod mock;

pub use arch::{CpuImage, CpuStart, CpuidEntry, CpuidPolicy, IoAddr, Topology};
pub use exit::Exit;
pub use fault::{Fault, FaultReason, Registers};
pub use state::{Blob, VcpuState, VmState};
pub use vcpu::{Debugger, GuestDebug, Kicker, RunError, StateError, Vcpu};
pub use vm::{
    CreateError, DirtyLog, Doorbells, Hypervisor, Lines, LogError, MapError, Msi, MsiMessage,
    SlotId, Vm, VmConfig, WireError,
};
pub use vmm_sys_util::eventfd::EventFd;
