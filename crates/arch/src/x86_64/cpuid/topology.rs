//! The leaves that tell threads, cores and sockets.

use super::{CMP_LEGACY, CpuidEntry, CpuidPolicy};

/// Kinds of level in the topology leaves, ECX bits 8 to 15.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// Cache leaves, EAX bits 0 to 4: no more caches.
const NO_CACHE: u32 = 0;

impl CpuidPolicy {
    /// Leaf 0xb or 0x1f: threads of a core, threads of a socket, and the end of the list.
    pub(super) fn levels(&self, leaf: u32, index: u32) -> [CpuidEntry; 3] {
        let topology = &self.topology;
        let level = |subleaf: u32, kind: u32, bits: u32, count: u32| CpuidEntry {
            leaf,
            subleaf: Some(subleaf),
            eax: bits,
            ebx: count,
            ecx: kind << 8 | subleaf,
            edx: topology.apic_id(index),
        };
        let in_socket = topology.threads() * topology.cores();
        [
            level(0, LEVEL_THREAD, topology.thread_bits(), topology.threads()),
            level(1, LEVEL_CORE, topology.socket_bits(), in_socket),
            level(2, 0, 0, 0),
        ]
    }

    /// Leaf 4: which threads share a cache, and how many core ids a socket has, each less one.
    pub(super) fn intel_caches(&self, entry: &mut CpuidEntry) {
        if entry.eax & 0x1f != NO_CACHE {
            let core_bits = self.topology.socket_bits() - self.topology.thread_bits();
            let cores = (1u32 << core_bits) - 1;
            entry.eax = entry.eax & 0x03ff_ffff | cores.min(0x3f) << 26;
            self.share(entry);
        }
    }

    /// EAX bits 14 to 25 of a cache leaf: the first two levels belong to a core, others to a socket.
    pub(super) fn share(&self, entry: &mut CpuidEntry) {
        if entry.eax & 0x1f != NO_CACHE {
            let bits = match entry.eax >> 5 & 7 {
                0..=2 => self.topology.thread_bits(),
                _ => self.topology.socket_bits(),
            };
            entry.eax = entry.eax & !(0xfff << 14) | ((1 << bits) - 1) << 14;
        }
    }

    /// Leaf 0x8000_0001: whether several processors of a socket are cores.
    pub(super) fn amd_features(&self, entry: &mut CpuidEntry) {
        entry.ecx &= !CMP_LEGACY;
        if self.topology.cores() > 1 {
            entry.ecx |= CMP_LEGACY;
        }
    }

    /// Leaf 0x8000_0008: threads of a socket less one, and the bits of an APIC id that number them.
    pub(super) fn amd_sizes(&self, entry: &mut CpuidEntry) {
        let threads = self.topology.threads() * self.topology.cores();
        entry.ecx = entry.ecx & !0xf0ff | (threads - 1) | self.topology.socket_bits() << 12;
    }

    /// Leaf 0x8000_001e: APIC id, core, and a socket as one node.
    pub(super) fn amd_topology(&self, entry: &mut CpuidEntry, index: u32) {
        let topology = &self.topology;
        let core = index / topology.threads() % topology.cores();
        let socket = index / topology.threads() / topology.cores();
        entry.eax = topology.apic_id(index);
        entry.ebx = (topology.threads() - 1) << 8 | core;
        entry.ecx = socket;
        entry.edx = 0;
    }
}
