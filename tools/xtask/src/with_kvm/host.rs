//! What KVM this machine has.

use std::fs::OpenOptions;

use hypervisor::kvm::{DEVICE, HostKind, Kind};

/// What can run guests here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// The CPU virtualizes (VMX or SVM) and /dev/kvm opens: any guest runs.
    Native,
    /// No KVM that boots stock kernels: KVM-PVM, none, or none that this user may open.
    Other,
}

impl Host {
    /// Looks at this machine.
    pub(crate) fn detect() -> Self {
        let opens = OpenOptions::new().read(true).write(true).open(DEVICE).is_ok();
        Self::of(HostKind::read().kind, opens)
    }

    fn of(kind: Kind, opens: bool) -> Self {
        match kind {
            Kind::Vmx | Kind::Svm if opens => Self::Native,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtualizing_cpu_with_an_open_device_is_native() {
        assert_eq!(Host::of(Kind::Svm, true), Host::Native);
        assert_eq!(Host::of(Kind::Vmx, true), Host::Native);
    }

    #[test]
    fn without_hardware_no_stock_kernel_boots() {
        assert_eq!(Host::of(Kind::Pvm, true), Host::Other);
        assert_eq!(Host::of(Kind::Unloaded, true), Host::Other);
    }

    #[test]
    fn a_device_that_does_not_open_is_no_kvm() {
        assert_eq!(Host::of(Kind::Vmx, false), Host::Other);
    }
}
