//! Saved state of machines and vCPUs.

use std::fmt::Write;

use arch::CpuidEntry;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use snapshot::Versioned;

/// A structure of the kernel's stable ABI as bytes; written down in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len() * 2);
        for byte in &self.0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.map(Self).ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits"))
    }
}

/// Everything that makes one vCPU go on where it stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuState {
    /// Structures by the name of the ioctl that reads them, less its `KVM_GET_`: `REGS`, `SREGS`,
    /// `XSAVE`, ...
    pub classes: std::collections::BTreeMap<String, Blob>,
    /// Model-specific registers: index and value.
    pub msrs: Vec<(u32, u64)>,
    /// What CPUID says.
    pub cpuid: Vec<CpuidEntry>,
    /// Frequency of the time stamp counter, kHz, where the host knows it.
    pub tsc_khz: Option<u32>,
}

impl Versioned for VcpuState {
    const KIND: &'static str = "hypervisor.vcpu";
    const VERSION: u32 = 1;
}

/// What the vCPUs of a machine share: interrupt controllers, timer, clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmState {
    /// Structures by the name of the ioctl that reads them, less its `KVM_GET_`.
    pub classes: std::collections::BTreeMap<String, Blob>,
}

impl Versioned for VmState {
    const KIND: &'static str = "hypervisor.vm";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_written_in_hexadecimal_and_comes_back() {
        let blob = Blob(vec![0, 0x0f, 0xff]);
        let text = serde_json::to_string(&blob).unwrap();
        assert_eq!(text, "\"000fff\"");
        assert_eq!(serde_json::from_str::<Blob>(&text).unwrap(), blob);
    }

    #[test]
    fn what_is_not_hexadecimal_is_refused() {
        assert!(serde_json::from_str::<Blob>("\"0\"").is_err());
        assert!(serde_json::from_str::<Blob>("\"+1\"").is_err());
    }
}
