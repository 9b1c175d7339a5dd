//! What CPUID says in the guest.
//!
//! Leaves are described in Intel SDM vol. 2A, CPUID, and in AMD APM vol. 3, appendix E.

mod topology;

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

/// Basic information and the highest basic leaf.
const BASIC: u32 = 0;
/// Features and the local APIC.
const FEATURES: u32 = 1;
/// Caches, on Intel's processors.
const CACHES: u32 = 4;
/// Topology; the second has more kinds of level and is what new processors are asked first.
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_V2: u32 = 0x1f;
/// Features of AMD's processors.
const AMD_FEATURES: u32 = 0x8000_0001;
/// Sizes of addresses; on AMD's processors, of APIC ids too.
const SIZES: u32 = 0x8000_0008;
/// Caches and topology, on AMD's processors.
const AMD_CACHES: u32 = 0x8000_001d;
const AMD_TOPOLOGY: u32 = 0x8000_001e;
/// Topology as AMD's newest processors tell it. Left out: what it can say, the others say too.
const AMD_TOPOLOGY_V2: u32 = 0x8000_0026;

/// FEATURES, ECX: the operating system has turned XSAVE on. KVM answers that as CR4 changes.
const OSXSAVE: u32 = 1 << 27;
/// FEATURES, ECX: this is a guest.
const HYPERVISOR: u32 = 1 << 31;
/// FEATURES, EDX: the count of logical processors is valid.
const HTT: u32 = 1 << 28;
/// AMD_FEATURES, ECX: HTT means cores, not threads.
const CMP_LEGACY: u32 = 1 << 1;

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

    /// The answers of vCPU `index`, made from what the host supports. Features stay as they are;
    /// whatever speaks of threads, cores, sockets and APIC ids is replaced.
    pub fn entries(&self, host: &[CpuidEntry], index: u32) -> Vec<CpuidEntry> {
        let amd = is_amd(host);
        let replaced = [TOPOLOGY, TOPOLOGY_V2, AMD_TOPOLOGY_V2];
        let mut entries: Vec<CpuidEntry> =
            host.iter().copied().filter(|entry| !replaced.contains(&entry.leaf)).collect();
        for entry in &mut entries {
            match entry.leaf {
                // So that the topology is seen even if the host has none.
                BASIC => entry.eax = entry.eax.max(TOPOLOGY),
                FEATURES => self.features(entry, index),
                CACHES => self.intel_caches(entry),
                AMD_FEATURES if amd => self.amd_features(entry),
                SIZES if amd => self.amd_sizes(entry),
                AMD_CACHES => self.share(entry),
                AMD_TOPOLOGY => self.amd_topology(entry, index),
                _ => {}
            }
        }
        entries.extend(self.levels(TOPOLOGY, index));
        if host.iter().any(|entry| entry.leaf == BASIC && entry.eax >= TOPOLOGY_V2) {
            entries.extend(self.levels(TOPOLOGY_V2, index));
        }
        entries
    }

    fn features(&self, entry: &mut CpuidEntry, index: u32) {
        entry.ecx = entry.ecx & !OSXSAVE | HYPERVISOR;
        entry.edx =
            if self.topology.socket_bits() > 0 { entry.edx | HTT } else { entry.edx & !HTT };
        let logical = 1 << self.topology.socket_bits();
        entry.ebx = entry.ebx & 0xffff | logical << 16 | self.apic_id(index) << 24;
    }
}

fn is_amd(host: &[CpuidEntry]) -> bool {
    let vendor = |name: &[u8; 12]| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *name;
        let words = [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes);
        host.iter().any(|entry| entry.leaf == BASIC && [entry.ebx, entry.edx, entry.ecx] == words)
    };
    vendor(b"AuthenticAMD") || vendor(b"HygonGenuine")
}

#[cfg(test)]
mod tests;
