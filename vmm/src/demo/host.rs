//! What kind of KVM this host has.

use std::{fmt, path::Path};

/// How this host's KVM runs guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Host {
    /// Intel's VMX: guest code runs on the processor.
    Vmx,
    /// AMD's SVM: guest code runs on the processor.
    Svm,
    /// KVM-PVM, without help from the processor: the kernel mode of a guest that does not know of
    /// it is emulated.
    Pvm,
    /// None that is known, or another hypervisor.
    Unknown,
}

impl Host {
    /// The host's kind by the kernel modules that it has.
    pub(super) fn detect() -> Self {
        Self::from_modules(Path::new("/sys/module"))
    }

    fn from_modules(modules: &Path) -> Self {
        let kinds = [("kvm_intel", Self::Vmx), ("kvm_amd", Self::Svm), ("kvm_pvm", Self::Pvm)];
        let kind = kinds.into_iter().find(|(name, _)| modules.join(name).exists());
        kind.map_or(Self::Unknown, |(_, kind)| kind)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmx => "on Intel VMX: the guest's code runs on the processor itself",
            Self::Svm => "on AMD SVM: the guest's code runs on the processor itself",
            Self::Pvm => {
                "KVM-PVM, which needs no VMX or SVM: the host's kernel emulates this guest's code, \
                 instruction by instruction"
            }
            Self::Unknown => "of a kind unknown to this program",
        })
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::tempdir::TempDir;

    use super::*;

    #[test]
    fn the_host_is_known_by_its_module() {
        let modules = TempDir::new().unwrap();
        assert_eq!(Host::from_modules(modules.as_path()), Host::Unknown);
        std::fs::create_dir(modules.as_path().join("kvm_pvm")).unwrap();
        assert_eq!(Host::from_modules(modules.as_path()), Host::Pvm);
        std::fs::create_dir(modules.as_path().join("kvm_amd")).unwrap();
        assert_eq!(Host::from_modules(modules.as_path()), Host::Svm);
    }
}
