//! KVM: what kind, and what it can do.

use hypervisor::{
    CreateError,
    kvm::{Capability, HostKind, Kind, Kvm},
};
use serde::Serialize;

use super::{Check, Host, State};

const NODE: &str = "dev/kvm";

/// How this host's KVM runs guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Backend {
    /// On the processor, by VMX or SVM.
    Hardware,
    /// The same, inside another hypervisor.
    Nested,
    /// By PVM: user code on the processor, kernel code emulated.
    Pvm,
    /// KVM is there, of a kind that cannot be told.
    Unknown,
    /// There is no KVM.
    Absent,
}

impl Backend {
    /// The kind that the modules and the processor's flags of `host` tell.
    pub fn of(host: &Host) -> Self {
        let cpuinfo = host.read("proc/cpuinfo").unwrap_or_default();
        let modules = host.names("sys/module");
        let found = HostKind::from_facts(&cpuinfo, modules.iter().map(String::as_str));
        match found.kind {
            Kind::Vmx | Kind::Svm if found.nested => Self::Nested,
            Kind::Vmx | Kind::Svm => Self::Hardware,
            Kind::Pvm => Self::Pvm,
            _ if host.exists(NODE) => Self::Unknown,
            _ => Self::Absent,
        }
    }

    /// The kind in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Hardware => "KVM on the processor's own virtualization",
            Self::Nested => "KVM inside another hypervisor (nested virtualization)",
            Self::Pvm => "KVM-PVM, without the processor's virtualization",
            Self::Unknown => "KVM of a kind that cannot be told",
            Self::Absent => "no KVM",
        }
    }

    /// The kernels that can boot, in words.
    pub fn kernels(self) -> &'static str {
        match self {
            Self::Hardware => "every kernel that purlin knows to load",
            Self::Nested => "every kernel that purlin knows to load, with slower exits",
            Self::Pvm => {
                "only small guests or kernels built for PVM, because guest kernel mode is emulated \
                 instruction by instruction: a stock Linux soon needs one that the emulator lacks"
            }
            Self::Unknown => "not known before one is tried",
            Self::Absent => "none",
        }
    }
}

/// What KVM answers: each capability with its value, or why it does not answer.
pub(super) type Answer = Result<Vec<(Capability, u32)>, CreateError>;

/// Asks KVM.
pub(super) fn ask(host: &Host) -> Answer {
    Kvm::open_at(host.path(NODE)).map(|kvm| kvm.capabilities().collect())
}

/// The checks of KVM.
pub(super) fn checks(host: &Host, backend: Backend, answer: &Answer) -> Vec<Check> {
    let mut checks = vec![processor(host, backend), device(host, answer)];
    if let Ok(capabilities) = answer {
        checks.extend(capabilities.iter().map(capability));
    }
    checks
}

fn processor(host: &Host, backend: Backend) -> Check {
    let flags = flags(host);
    let flag = ["vmx", "svm"].into_iter().find(|name| flags.iter().any(|flag| flag == name));
    let found = match flag {
        Some(flag) => format!("{} (processor flag {flag})", backend.describe()),
        None => format!("{} (no processor flag vmx or svm)", backend.describe()),
    };
    let check = Check::ok("virtualization", "running guest code at the processor's speed", found);
    match (backend, flag) {
        (Backend::Hardware | Backend::Nested, _) => check,
        (_, Some(flag)) => {
            let module = if flag == "vmx" { "kvm_intel" } else { "kvm_amd" };
            check.but(State::Warning, format!("load the module: modprobe {module}"))
        }
        (_, None) if flags.iter().any(|flag| flag == "hypervisor") => check.but(
            State::Warning,
            "this host is a virtual machine: use one with nested virtualization, or bare metal",
        ),
        (_, None) => check.but(State::Warning, "enable VT-x or AMD-V in the firmware"),
    }
}

fn device(host: &Host, answer: &Answer) -> Check {
    let purpose = "every guest";
    match answer {
        Ok(_) => Check::ok("/dev/kvm", purpose, "opens and has all that is required").required(),
        Err(error) => {
            let right = match error {
                CreateError::Absent { .. } => {
                    "load the module kvm_intel or kvm_amd; in a container, pass the device in"
                }
                CreateError::Permission { .. } => {
                    "join the group that owns it (usually kvm) or run as root"
                }
                _ => "use a kernel of at least Linux 5.10 with KVM of API version 12",
            };
            let root = host.root.display().to_string();
            let found = error.to_string().replace(&root, if root == "/" { "/" } else { "" });
            Check::ok("/dev/kvm", purpose, found).required().but(State::Missing, right)
        }
    }
}

fn capability((capability, value): &(Capability, u32)) -> Check {
    let Capability { name, purpose, required, .. } = *capability;
    let check = Check { required, ..Check::ok(name, purpose, format!("value {value}")) };
    match (value, required) {
        (0, true) => check.but(State::Missing, "use a newer kernel"),
        (0, false) => check.but(State::Warning, "use a newer kernel, or another processor"),
        _ => check,
    }
}

/// The flags of the first processor.
fn flags(host: &Host) -> Vec<String> {
    let line = host.entry("proc/cpuinfo", "flags").unwrap_or_default();
    line.split_whitespace().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fake::{Fake, named};

    fn backend(module: &str, flags: &str) -> Backend {
        let fake = Fake::new()
            .file(&format!("sys/module/{module}/refcnt"), "0")
            .file("proc/cpuinfo", &format!("processor : 0\nflags : fpu {flags} sse\n"));
        Backend::of(&fake.host())
    }

    #[test]
    fn the_kind_is_told_from_module_and_flags() {
        assert_eq!(backend("kvm_amd", "svm"), Backend::Hardware);
        assert_eq!(backend("kvm_intel", "vmx hypervisor"), Backend::Nested);
        assert_eq!(backend("kvm_pvm", "hypervisor"), Backend::Pvm);
        assert_eq!(backend("loop", "vmx"), Backend::Absent);
        assert_eq!(Backend::of(&Fake::new().file(NODE, "").host()), Backend::Unknown);
    }

    #[test]
    fn a_pvm_host_says_which_kernels_boot() {
        assert!(Backend::Pvm.kernels().contains("guest kernel mode is emulated"));
    }

    #[test]
    fn a_processor_that_could_names_the_module_to_load() {
        let fake = Fake::new().file("proc/cpuinfo", "flags : vmx\n");
        let check = processor(&fake.host(), Backend::Absent);
        assert_eq!(check.state, State::Warning);
        assert_eq!(check.remedy.unwrap(), "load the module: modprobe kvm_intel");
    }

    #[test]
    fn an_absent_device_is_missing_and_required() {
        let host = Fake::new().host();
        let checks = checks(&host, Backend::Absent, &ask(&host));
        let check = named(&checks, "/dev/kvm");
        assert_eq!((check.state, check.required), (State::Missing, true));
        assert!(check.found.contains("/dev/kvm does not exist"), "{}", check.found);
    }

    #[test]
    fn what_is_not_kvm_is_missing() {
        let fake = Fake::new().file(NODE, "");
        let checks = checks(&fake.host(), Backend::Unknown, &ask(&fake.host()));
        assert_eq!(named(&checks, "/dev/kvm").state, State::Missing);
    }

    #[test]
    fn each_capability_is_a_check() {
        let capability = |name, required| Capability { number: 1, name, purpose: "x", required };
        let answer = Ok(vec![
            (capability("A", true), 1),
            (capability("B", true), 0),
            (capability("C", false), 0),
        ]);
        let checks = checks(&Fake::new().host(), Backend::Hardware, &answer);
        let states = ["A", "B", "C"].map(|name| named(&checks, name).state);
        assert_eq!(states, [State::Ok, State::Missing, State::Warning]);
    }
}
