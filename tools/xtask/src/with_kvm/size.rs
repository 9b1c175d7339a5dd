//! Amounts of memory on the command line.

use std::fs;
use std::str::FromStr;

/// A number of bytes, in whole MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size {
    mib: u64,
}

/// Left to the host, so that starting the guest doesn't push out what runs there.
const RESERVE: u64 = 512;

impl Size {
    /// From a number of MiB.
    pub(crate) const fn mib(mib: u64) -> Self {
        Self { mib }
    }

    /// As QEMU wants it.
    pub(super) fn qemu(self) -> String {
        format!("{}M", self.mib)
    }

    /// This, or what the host can give if that is less.
    pub(super) fn capped(self, meminfo: &str) -> Self {
        let available = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next())
            .and_then(|kib| kib.parse::<u64>().ok());
        match available {
            Some(kib) => self.min(Self::mib((kib / 1024).saturating_sub(RESERVE))),
            None => self,
        }
    }

    /// [`Self::capped`] by this host's present state.
    pub(super) fn capped_by_host(self) -> Self {
        self.capped(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}M", self.mib)
    }
}

/// Why a text is no size.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a size: it should be a number of at least 512M with M or G, such as 6G")]
pub(crate) struct NotASize(String);

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let error = || NotASize(text.to_owned());
        let upper = text.to_ascii_uppercase();
        let (number, unit) = match (upper.strip_suffix('G'), upper.strip_suffix('M')) {
            (Some(number), _) => (number, 1024),
            (_, Some(number)) => (number, 1),
            _ => return Err(error()),
        };
        let number: u64 = number.parse().map_err(|_| error())?;
        let mib = number.checked_mul(unit).filter(|&mib| mib >= 512).ok_or_else(error)?;
        Ok(Self { mib })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!("6G".parse::<Size>().unwrap(), Size::mib(6144));
        assert_eq!("768m".parse::<Size>().unwrap(), Size::mib(768));
    }

    #[test]
    fn what_is_no_size_or_too_small_is_refused() {
        for text in ["", "6", "G", "-1G", "6T", "511M", "99999999999999999999G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_guest_never_gets_all_that_is_available() {
        let meminfo = "MemTotal: 9999999 kB\nMemAvailable:    4194304 kB\n";

        assert_eq!(Size::mib(6144).capped(meminfo), Size::mib(4096 - 512));
        assert_eq!(Size::mib(1024).capped(meminfo), Size::mib(1024));
        assert_eq!(Size::mib(1024).capped(""), Size::mib(1024));
    }
}
