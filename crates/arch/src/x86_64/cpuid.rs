//! What CPUID says in the guest.

use serde::{Deserialize, Serialize};

use crate::Topology;

/// One answer of CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuidEntry {
    /// Leaf: the value of EAX asked with.
    pub leaf: u32,
    /// Subleaf, the value of ECX asked with, if the leaf looks at it.
    pub subleaf: Option<u32>,
    /// Answer in EAX.
    pub eax: u32,
    /// Answer in EBX.
    pub ebx: u32,
    /// Answer in ECX.
    pub ecx: u32,
    /// Answer in EDX.
    pub edx: u32,
}

/// How the answers of the host's hypervisor become those of each vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuidPolicy {
    topology: Topology,
}

impl CpuidPolicy {
    /// All that the host offers, with the topology of `topology`.
    pub fn host(topology: Topology) -> Self {
        Self { topology }
    }

    /// The APIC id of vCPU `index`.
    pub fn apic_id(&self, index: u32) -> u32 {
        self.topology.apic_id(index)
    }

    /// The answers of vCPU `index`, made from what the host supports.
    pub fn entries(&self, host: &[CpuidEntry], index: u32) -> Vec<CpuidEntry> {
        let _ = (index, &self.topology);
        host.to_vec()
    }
}
