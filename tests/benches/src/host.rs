//! Where the figures are from: they mean little without.

use std::{fs, path::Path};

use serde::Serialize;

/// The machine and its kernel, as far as it says.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Host {
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The model of the processor.
    pub(crate) cpu: String,
    /// How many there are.
    pub(crate) cpus: usize,
    /// What runs guests: a CPU with VMX or SVM, or PVM, or nothing.
    pub(crate) virtualization: String,
    /// Whether the machine is itself a guest.
    pub(crate) guest: bool,
    /// Load averages of the last 1, 5 and 15 minutes when the run began.
    pub(crate) load: String,
}

impl Host {
    /// Asks this machine.
    pub(crate) fn look() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let flags = field(&cpuinfo, "flags").unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            virtualization: virtualization(flags, |module| {
                Path::new("/sys/module").join(module).exists()
            }),
            guest: flags.split(' ').any(|flag| flag == "hypervisor"),
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

fn virtualization(flags: &str, loaded: impl Fn(&str) -> bool) -> String {
    let has = |flag: &str| flags.split(' ').any(|one| one == flag);
    let kind = if loaded("kvm_pvm") {
        "PVM (kvm_pvm): kernel-mode guest code is emulated"
    } else if has("vmx") && loaded("kvm_intel") {
        "hardware (VMX, kvm_intel)"
    } else if has("svm") && loaded("kvm_amd") {
        "hardware (SVM, kvm_amd)"
    } else if has("vmx") || has("svm") {
        "hardware, without KVM's module for it"
    } else {
        "none known"
    };
    kind.to_owned()
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// The text of a file that may not be there.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_whatever_its_padding() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU: fast\n";
        assert_eq!(field(cpuinfo, "model name"), Some("A CPU: fast"));
        assert_eq!(field(cpuinfo, "model"), None);
    }

    #[test]
    fn pvm_is_told_from_hardware_by_its_module() {
        assert!(virtualization("fpu", |module| module == "kvm_pvm").starts_with("PVM"));
        assert!(virtualization("vmx", |module| module == "kvm_intel").contains("VMX"));
        assert_eq!(virtualization("fpu", |_| false), "none known");
    }
}
