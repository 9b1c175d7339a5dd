//! The Linux kernel's hypervisor.
//!
//! `unsafe` is allowed in three files only, each of which says why: `sys` (system calls without a
//! safe form), `page` (the run page) and `slots` (guest RAM).

mod capability;
mod chips;
mod class;
mod debug;
mod doorbells;
mod exit;
mod fault;
mod host;
mod kick;
mod lines;
mod machine;
mod msrs;
mod page;
mod routing;
mod slots;
mod start;
mod state;
mod sys;
mod vcpu;

use std::{
    ffi::CString,
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use arch::CpuidEntry;
use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};

pub use capability::{CAPABILITIES, Capability};
pub use host::{HostKind, Kind};

use crate::{CreateError, Hypervisor, Vm, VmConfig};

/// The device node of KVM.
pub const DEVICE: &str = "/dev/kvm";

/// CPUID leaf 1, ECX: the local APIC's timer has a deadline mode.
const TSC_DEADLINE: u32 = 1 << 24;

/// CPUID leaf: the sizes of addresses.
const SIZES: u32 = 0x8000_0008;
/// Every processor with 64 bits has so many for physical addresses, and four levels of page tables
/// reach so far.
const LEAST_BITS: u8 = 36;
const MOST_BITS: u8 = 48;

/// A KVM that has everything this crate relies on. Clones share one handle.
///
/// The first run of a vCPU blocks the signal `SIGRTMIN + 7`, by which it is kicked, in its thread, for
/// good. Inside `KVM_RUN` those signals are blocked that the thread blocked at that time, so block
/// others before. A vCPU that is still kicked must not outlive the thread that ran it.
#[derive(Clone, Debug)]
pub struct Kvm(Arc<Host>);

/// The system level of KVM: its handle, and what it says of itself, asked once.
#[derive(Debug)]
struct Host {
    fd: kvm_ioctls::Kvm,
    cpuid: OnceLock<Vec<CpuidEntry>>,
    msrs: OnceLock<Vec<u32>>,
}

impl Kvm {
    /// Opens [`DEVICE`].
    ///
    /// # Errors
    /// It does not open, speaks another version, or lacks a capability.
    pub fn open() -> Result<Self, CreateError> {
        Self::open_at(DEVICE)
    }

    /// Opens the device node at `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(path: impl AsRef<Path>) -> Result<Self, CreateError> {
        let path = path.as_ref().display().to_string();
        let node = CString::new(path.as_str())
            .map_err(|error| CreateError::Open { path: path.clone(), source: error.into() })?;
        let fd = kvm_ioctls::Kvm::new_with_path(node).map_err(|error| refused(&path, os(error)))?;
        let found = fd.get_api_version();
        if found < 0 {
            let source = io::Error::last_os_error();
            return Err(CreateError::Open { path, source });
        }
        let expected = i32::try_from(KVM_API_VERSION).unwrap_or(i32::MAX);
        if found != expected {
            return Err(CreateError::ApiVersion { found, expected });
        }
        capability::check(|capability| capability.ask(&fd))?;
        Ok(Self(Arc::new(Host { fd, cpuid: OnceLock::new(), msrs: OnceLock::new() })))
    }

    /// Every capability that this crate asks for, with the host's answer: 0 if it is lacking.
    pub fn capabilities(&self) -> impl Iterator<Item = (Capability, u32)> + '_ {
        CAPABILITIES.iter().map(|capability| (*capability, capability.ask(&self.0.fd)))
    }

    /// What CPUID can say in a guest of this host.
    ///
    /// # Errors
    /// The host does not say.
    pub fn cpuid(&self) -> Result<&[CpuidEntry], CreateError> {
        self.0.cpuid().map_err(|source| CreateError::Host { step: "say what CPUID can be", source })
    }
}

impl Hypervisor for Kvm {
    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, CreateError> {
        Ok(machine::Machine::new(Arc::clone(&self.0), config)?)
    }

    fn address_bits(&self) -> Result<u32, CreateError> {
        Ok(address_bits(self.cpuid()?))
    }
}

/// What CPUID says of addresses: those of the processor, and fewer of the guest where the host's page
/// tables for guests do not reach as far (KVM then says so in bits 16 to 23), four levels at least.
fn address_bits(cpuid: &[CpuidEntry]) -> u32 {
    let sizes = cpuid.iter().find(|entry| entry.leaf == SIZES);
    let [own, _, guest, _] = sizes.map_or(0, |entry| entry.eax).to_le_bytes();
    let bits = if guest == 0 { own.min(MOST_BITS) } else { own.min(guest) };
    bits.max(LEAST_BITS).into()
}

impl Host {
    fn cpuid(&self) -> io::Result<&[CpuidEntry]> {
        if let Some(known) = self.cpuid.get() {
            return Ok(known);
        }
        let table = self.fd.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(os)?;
        let mut entries = start::entries(&table);
        // KVM leaves this one to its users, because it depends on the local APIC's being in the
        // kernel, where ours is.
        if self.fd.check_extension(kvm_ioctls::Cap::TscDeadlineTimer) {
            entries.iter_mut().filter(|entry| entry.leaf == 1).for_each(|entry| {
                entry.ecx |= TSC_DEADLINE;
            });
        }
        Ok(self.cpuid.get_or_init(|| entries))
    }

    /// The MSRs that make up a vCPU's state.
    fn msrs(&self) -> io::Result<&[u32]> {
        if let Some(known) = self.msrs.get() {
            return Ok(known);
        }
        let list = self.fd.get_msr_index_list().map_err(os)?;
        Ok(self.msrs.get_or_init(|| list.as_slice().to_vec()))
    }
}

fn refused(path: &str, source: io::Error) -> CreateError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => CreateError::Absent { path },
        io::ErrorKind::PermissionDenied => CreateError::Permission { path },
        // The node without the module behind it.
        _ if source
            .raw_os_error()
            .is_some_and(|code| [libc::ENXIO, libc::ENODEV].contains(&code)) =>
        {
            CreateError::Absent { path }
        }
        _ => CreateError::Open { path, source },
    }
}

fn os(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

fn failed(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> CreateError {
    move |error| CreateError::Host { step, source: os(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_processor_and_page_tables() {
        let bits = |eax| address_bits(&[CpuidEntry { leaf: SIZES, eax, ..CpuidEntry::default() }]);
        assert_eq!([0x3027, 0x3034, 0x30_3034, 0x34_3934].map(bits), [39, 48, 48, 52]);
        assert_eq!(address_bits(&[]), 36);
    }
}
