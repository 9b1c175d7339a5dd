//! What stands behind the host's KVM: real virtualization hardware, or less.

use std::{fmt, fs};

/// What stands behind `/dev/kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Intel's VMX.
    Vmx,
    /// AMD's SVM.
    Svm,
    /// KVM-PVM: no virtualization hardware. Guest kernels run in an instruction emulator, or, if made
    /// for it, natively in user mode; a stock kernel does not get far.
    Pvm,
    /// The processor could, but no module of KVM's is loaded for it.
    Unloaded,
    /// The processor cannot, or is not allowed to.
    Absent,
}

/// What stands behind `/dev/kvm`, and where that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostKind {
    /// What.
    pub kind: Kind,
    /// Whether the host is itself a guest.
    pub nested: bool,
}

impl HostKind {
    /// Reads what the running kernel says.
    pub fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let modules: Vec<String> = fs::read_dir("/sys/module")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        Self::from_facts(&cpuinfo, modules.iter().map(String::as_str))
    }

    /// Judges by the text of `/proc/cpuinfo` and the names in `/sys/module`.
    pub fn from_facts<'a>(cpuinfo: &str, modules: impl IntoIterator<Item = &'a str>) -> Self {
        let flags = cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "flags").then_some(value)
        });
        let has =
            |flag: &str| flags.is_some_and(|flags| flags.split_whitespace().any(|f| f == flag));
        let (mut intel, mut amd, mut pvm) = (false, false, false);
        for module in modules {
            intel |= module == "kvm_intel";
            amd |= module == "kvm_amd";
            pvm |= module == "kvm_pvm";
        }
        let kind = match (has("vmx"), has("svm")) {
            (true, _) if intel => Kind::Vmx,
            (_, true) if amd => Kind::Svm,
            _ if pvm => Kind::Pvm,
            (true, _) | (_, true) => Kind::Unloaded,
            _ => Kind::Absent,
        };
        Self { kind, nested: has("hypervisor") }
    }
}

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Vmx => "hardware (Intel VMX)",
            Kind::Svm => "hardware (AMD SVM)",
            Kind::Pvm => "KVM-PVM: no virtualization hardware, guest kernels need PVM support",
            Kind::Unloaded => {
                "the processor has VMX or SVM, but kvm_intel or kvm_amd is not loaded"
            }
            Kind::Absent => "none: the processor has no VMX or SVM, or firmware or cloud hide it",
        })?;
        f.write_str(if self.nested { ", on a virtual machine" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx ssse3\n";
    const AMD: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu svm hypervisor\n";
    const NEITHER: &str = "processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\nbugs\t\t: vmxnot\n";

    fn judge(cpuinfo: &str, modules: &[&'static str]) -> (Kind, bool) {
        let found = HostKind::from_facts(cpuinfo, modules.iter().copied());
        (found.kind, found.nested)
    }

    #[test]
    fn hardware_needs_the_flag_and_the_module() {
        assert_eq!(judge(INTEL, &["kvm", "kvm_intel"]), (Kind::Vmx, false));
        assert_eq!(judge(INTEL, &["ext4"]), (Kind::Unloaded, false));
        assert_eq!(judge(INTEL, &["kvm", "kvm_amd"]), (Kind::Unloaded, false));
    }

    #[test]
    fn a_guest_with_hardware_is_nested() {
        assert_eq!(judge(AMD, &["kvm_amd"]), (Kind::Svm, true));
    }

    #[test]
    fn pvm_is_known_by_its_module() {
        assert_eq!(judge(NEITHER, &["kvm", "kvm_pvm"]), (Kind::Pvm, true));
    }

    #[test]
    fn a_processor_without_the_flags_has_none() {
        assert_eq!(judge(NEITHER, &[]), (Kind::Absent, true));
        assert_eq!(judge("", &["kvm"]), (Kind::Absent, false));
    }
}
