//! The processors.

use arch::{MAX_CPUS, Topology};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Part, scalar};

/// The processors: `--cpus COUNT[,threads=N][,cores=N][,sockets=N]`.
///
/// What is left out of the topology is computed: threads and sockets are 1, cores are the rest, and
/// where the cores are given the sockets are the rest. A count alone is one socket of that many
/// cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Cpus {
    /// How many. Default: 1.
    #[serde(deserialize_with = "scalar::count")]
    pub count: u32,
    /// Threads of each core.
    #[serde(deserialize_with = "scalar::some_count")]
    pub threads: Option<u32>,
    /// Cores of each socket.
    #[serde(deserialize_with = "scalar::some_count")]
    pub cores: Option<u32>,
    /// Sockets of the machine.
    #[serde(deserialize_with = "scalar::some_count")]
    pub sockets: Option<u32>,
}

impl Default for Cpus {
    fn default() -> Self {
        Self { count: 1, threads: None, cores: None, sockets: None }
    }
}

impl Part for Cpus {
    const MAIN: &'static str = "count";
}

impl Cpus {
    /// The topology that these CPUs have.
    ///
    /// # Errors
    /// There are none or too many, or the topology does not have that many.
    pub fn topology(&self) -> Result<Topology, ConfigError> {
        if self.count == 0 || self.count > MAX_CPUS {
            return Err(ConfigError::Cpus(self.count));
        }
        let rest = |a: u32, b: u32| (self.count / a.saturating_mul(b).max(1)).max(1);
        let threads = self.threads.unwrap_or(1);
        let (cores, sockets) = match (self.cores, self.sockets) {
            (Some(cores), Some(sockets)) => (cores, sockets),
            (Some(cores), None) => (cores, rest(threads, cores)),
            (None, sockets) => (rest(threads, sockets.unwrap_or(1)), sockets.unwrap_or(1)),
        };
        let threads = match (self.threads, self.cores, self.sockets) {
            (None, Some(cores), Some(sockets)) => rest(cores, sockets),
            _ => threads,
        };
        let product = threads.checked_mul(cores).and_then(|cpus| cpus.checked_mul(sockets));
        if product == Some(self.count) {
            return Ok(Topology::new(threads, cores, sockets)?);
        }
        Err(ConfigError::Product { count: self.count, threads, cores, sockets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(list: &str) -> (u32, u32, u32) {
        let topology = Cpus::default().with(list).unwrap().topology().unwrap();
        (topology.threads(), topology.cores(), topology.sockets())
    }

    fn refusal(list: &str) -> String {
        Cpus::default().with(list).unwrap().topology().unwrap_err().to_string()
    }

    #[test]
    fn a_count_alone_is_one_socket_of_cores() {
        assert_eq!(shape("4"), (1, 4, 1));
    }

    #[test]
    fn what_is_left_out_is_computed() {
        assert_eq!(shape("8,threads=2"), (2, 4, 1));
        assert_eq!(shape("8,sockets=2"), (1, 4, 2));
        assert_eq!(shape("8,threads=2,sockets=2"), (2, 2, 2));
        assert_eq!(shape("8,cores=2"), (1, 2, 4));
        assert_eq!(shape("8,cores=2,threads=2"), (2, 2, 2));
        assert_eq!(shape("8,cores=2,sockets=2"), (2, 2, 2));
        assert_eq!(shape("8,threads=2,cores=2,sockets=2"), (2, 2, 2));
    }

    #[test]
    fn a_topology_of_another_count_is_refused_with_its_count() {
        assert_eq!(
            refusal("4,threads=2,cores=4,sockets=1"),
            "4 CPUs cannot be 2 threads x 4 cores x 1 sockets, which are 8; \
             leave one of them out to have it computed"
        );
        assert!(refusal("5,threads=2").contains("which are 4"));
        assert!(refusal("4,threads=0").contains("which are 0"));
        assert!(
            refusal("2,threads=4000000000,cores=2,sockets=2").contains("which are 16000000000")
        );
    }

    #[test]
    fn none_and_too_many_are_refused_with_the_limit() {
        assert_eq!(refusal("0"), "0 CPUs; a machine has 1 to 64");
        assert_eq!(refusal("65"), "65 CPUs; a machine has 1 to 64");
        assert_eq!(shape("64"), (1, 64, 1));
    }
}
