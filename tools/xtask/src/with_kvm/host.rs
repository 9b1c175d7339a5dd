//! What KVM this machine has.

use std::fs::{self, OpenOptions};
use std::path::Path;

/// What can run guests here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// The CPU virtualizes (VMX or SVM) and /dev/kvm opens: any guest runs.
    Native,
    /// KVM-PVM: /dev/kvm opens, but no stock kernel boots.
    Pvm,
    /// No KVM, or none that this user may open.
    None,
}

impl Host {
    /// Looks at this machine.
    pub(crate) fn detect() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let opens = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        Self::from_facts(&cpuinfo, opens, Path::new("/sys/module/kvm_pvm").exists())
    }

    fn from_facts(cpuinfo: &str, opens: bool, pvm: bool) -> Self {
        let virtualizes = cpuinfo
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
        match (opens, virtualizes && !pvm) {
            (false, _) => Self::None,
            (true, true) => Self::Native,
            (true, false) => Self::Pvm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SVM: &str = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu lm svm npt\n";
    const VMX: &str = "flags\t\t: fpu vmx lm\n";
    const NEITHER: &str = "model name\t: svm lookalike\nflags\t\t: fpu lm svm_lock\n";

    #[test]
    fn a_virtualizing_cpu_with_an_open_device_is_native() {
        assert_eq!(Host::from_facts(SVM, true, false), Host::Native);
        assert_eq!(Host::from_facts(VMX, true, false), Host::Native);
    }

    #[test]
    fn a_device_without_the_cpu_flag_is_pvm() {
        assert_eq!(Host::from_facts(NEITHER, true, false), Host::Pvm);
    }

    #[test]
    fn the_pvm_module_counts_more_than_the_flag() {
        assert_eq!(Host::from_facts(SVM, true, true), Host::Pvm);
    }

    #[test]
    fn a_device_that_does_not_open_is_no_kvm() {
        assert_eq!(Host::from_facts(SVM, false, false), Host::None);
        assert_eq!(Host::from_facts("", false, true), Host::None);
    }
}
