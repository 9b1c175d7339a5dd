//! Threads, cores and sockets.

use serde::{Deserialize, Serialize};

use crate::MAX_CPUS;

/// How a machine's vCPUs are arranged: `sockets` packages of `cores` cores with `threads` threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    threads: u32,
    cores: u32,
    sockets: u32,
}

/// Why no machine has that topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// A count is 0.
    #[error("{threads} threads, {cores} cores and {sockets} sockets: each must be at least 1")]
    Zero {
        /// Threads of a core.
        threads: u32,
        /// Cores of a socket.
        cores: u32,
        /// Sockets of the machine.
        sockets: u32,
    },
    /// More vCPUs, or APIC ids, than a machine may have.
    #[error(
        "{threads} threads, {cores} cores and {sockets} sockets are too many; \
         a machine has at most {MAX_CPUS} vCPUs, with APIC ids below 255"
    )]
    TooMany {
        /// Threads of a core.
        threads: u32,
        /// Cores of a socket.
        cores: u32,
        /// Sockets of the machine.
        sockets: u32,
    },
}

impl Topology {
    /// `sockets` sockets of `cores` cores of `threads` threads.
    ///
    /// # Errors
    /// A count is 0, or the product is more than [`MAX_CPUS`].
    pub fn new(threads: u32, cores: u32, sockets: u32) -> Result<Self, TopologyError> {
        if threads == 0 || cores == 0 || sockets == 0 {
            return Err(TopologyError::Zero { threads, cores, sockets });
        }
        let too_many = TopologyError::TooMany { threads, cores, sockets };
        let cpus = threads.checked_mul(cores).and_then(|n| n.checked_mul(sockets));
        if cpus.is_none_or(|cpus| cpus > MAX_CPUS) {
            return Err(too_many);
        }
        let topology = Self { threads, cores, sockets };
        // 255 is the broadcast id of 8-bit APICs.
        if topology.apic_id(topology.cpus() - 1) >= 255 {
            return Err(too_many);
        }
        Ok(topology)
    }

    /// One socket of `cpus` cores with one thread each.
    ///
    /// # Errors
    /// `cpus` is 0 or more than [`MAX_CPUS`].
    pub fn flat(cpus: u32) -> Result<Self, TopologyError> {
        Self::new(1, cpus, 1)
    }

    /// Threads of each core.
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// Cores of each socket.
    pub fn cores(&self) -> u32 {
        self.cores
    }

    /// Sockets.
    pub fn sockets(&self) -> u32 {
        self.sockets
    }

    /// vCPUs in all.
    pub fn cpus(&self) -> u32 {
        self.threads * self.cores * self.sockets
    }

    /// How many low bits of an APIC id number the thread in its core.
    pub fn thread_bits(&self) -> u32 {
        bits_for(self.threads)
    }

    /// How many low bits of an APIC id number the thread in its socket.
    pub fn socket_bits(&self) -> u32 {
        bits_for(self.cores) + self.thread_bits()
    }

    /// The APIC id of vCPU `index`: thread, core and socket, each in bits of its own (Intel SDM
    /// vol. 3A, 10.9.1).
    pub fn apic_id(&self, index: u32) -> u32 {
        let thread = index % self.threads;
        let core = index / self.threads % self.cores;
        let socket = index / self.threads / self.cores;
        socket << self.socket_bits() | core << self.thread_bits() | thread
    }
}

fn bits_for(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_apic_ids_are_the_indices() {
        let topology = Topology::flat(4).unwrap();
        assert_eq!([0, 1, 2, 3].map(|index| topology.apic_id(index)), [0, 1, 2, 3]);
    }

    #[test]
    fn apic_ids_leave_gaps_where_a_count_is_no_power_of_two() {
        let topology = Topology::new(2, 3, 2).unwrap();
        let ids: Vec<u32> = (0..12).map(|index| topology.apic_id(index)).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
    }

    #[test]
    fn counts_of_zero_are_refused() {
        let zero = TopologyError::Zero { threads: 1, cores: 0, sockets: 1 };
        assert_eq!(Topology::flat(0), Err(zero));
    }

    #[test]
    fn more_than_the_most_vcpus_are_refused() {
        assert!(Topology::flat(64).is_ok());
        assert!(Topology::flat(65).is_err());
        assert!(Topology::new(u32::MAX, u32::MAX, 2).is_err());
    }
}
