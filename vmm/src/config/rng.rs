//! The source of random numbers.

use std::{num::NonZeroU64, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Part, scalar};

/// Random numbers for the guest: `--rng PATH[,bytes-per-sec=N]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Rng {
    /// Where they come from, for example `/dev/urandom`.
    pub path: PathBuf,
    /// How many bytes the guest may have in a second. Default: as many as it asks for.
    #[serde(deserialize_with = "scalar::rate")]
    pub bytes_per_sec: Option<NonZeroU64>,
}

impl Part for Rng {
    const MAIN: &'static str = "path";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_has_no_limit() {
        let rng = Rng::default().with("/dev/urandom").unwrap();
        assert_eq!(rng, Rng { path: "/dev/urandom".into(), bytes_per_sec: None });
    }

    #[test]
    fn a_limit_is_a_number_of_bytes() {
        let rng = Rng::default().with("/dev/urandom,bytes-per-sec=1K").unwrap();
        assert_eq!(rng.bytes_per_sec, NonZeroU64::new(1024));
        assert_eq!(rng.with("path=/dev/random").unwrap().bytes_per_sec, rng.bytes_per_sec);
        let error = Rng::default().with("/dev/urandom,bytes-per-sec=0").unwrap_err().to_string();
        assert!(error.contains("a rate of 0"), "{error}");
    }
}
