//! Sockets between guest and host.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use virtio_vsock::Cid;

use super::{ConfigError, Part, scalar};

/// Sockets between guest and host: `--vsock PATH[,cid=N]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Vsock {
    /// The Unix socket on which host programs reach the guest; those that the guest reaches listen at
    /// this path with `_PORT` after it.
    pub path: PathBuf,
    /// The guest's address, 3 to 4294967294. Default: 3.
    #[serde(deserialize_with = "scalar::count")]
    pub cid: u32,
}

impl Default for Vsock {
    fn default() -> Self {
        Self { path: PathBuf::new(), cid: Cid::default().get() }
    }
}

impl Part for Vsock {
    const MAIN: &'static str = "path";
}

impl Vsock {
    /// The guest's address.
    ///
    /// # Errors
    /// It is reserved.
    pub fn address(&self) -> Result<Cid, ConfigError> {
        Ok(Cid::new(self.cid)?)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.path.as_os_str().is_empty() {
            return Err(ConfigError::NoSocket);
        }
        self.address().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(list: &str) -> String {
        Vsock::default().with(list).unwrap().check().unwrap_err().to_string()
    }

    #[test]
    fn a_path_alone_gives_the_guest_the_first_address() {
        let vsock = Vsock::default().with("/run/vm.sock").unwrap();
        assert_eq!(vsock, Vsock { path: "/run/vm.sock".into(), cid: 3 });
        assert!(vsock.check().is_ok());
        assert_eq!(Vsock::default().with("a,cid=4294967294").unwrap().cid, 0xffff_fffe);
    }

    #[test]
    fn a_reserved_address_is_refused() {
        for cid in [0, 1, 2, u32::MAX] {
            let error = refusal(&format!("a,cid={cid}"));
            assert!(error.starts_with(&format!("{cid} cannot be a guest's CID")), "{error}");
        }
        assert!(Vsock::default().with("a,cid=4294967296").is_err());
    }

    #[test]
    fn an_address_without_a_path_is_refused() {
        assert!(refusal("cid=5").contains("--vsock PATH"));
    }
}
