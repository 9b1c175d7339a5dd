//! What this crate relies on, by name.

use kvm_bindings as kvm;
use kvm_ioctls::Kvm as Host;

use crate::CreateError;

/// Something that a host's KVM has or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Number, as in `linux/kvm.h`.
    pub number: u32,
    /// Name, as in `linux/kvm.h`.
    pub name: &'static str,
    /// What it is needed for; completes "KVM lacks it, which ...".
    pub purpose: &'static str,
    /// Without it no machine is made; otherwise, less can be done.
    pub required: bool,
}

macro_rules! capabilities {
    ($($need:ident $name:ident $purpose:literal)*) => {
        /// Every capability that this crate asks for, the required ones first.
        pub const CAPABILITIES: &[Capability] = &[$(Capability {
            number: kvm::$name,
            name: stringify!($name),
            purpose: $purpose,
            required: capabilities!(@$need),
        },)*];
    };
    (@required) => { true };
    (@optional) => { false };
}

capabilities! {
    required KVM_CAP_USER_MEMORY "gives guests their RAM"
    required KVM_CAP_DESTROY_MEMORY_REGION_WORKS "takes RAM away from guests"
    required KVM_CAP_SET_TSS_ADDR "places the task state segment that Intel processors need"
    required KVM_CAP_SET_IDENTITY_MAP_ADDR "places the identity map that Intel processors need"
    required KVM_CAP_IRQCHIP "emulates the interrupt controllers in the kernel"
    required KVM_CAP_PIT2 "emulates the interval timer in the kernel"
    required KVM_CAP_PIT_STATE2 "saves the interval timer"
    required KVM_CAP_IRQFD "raises interrupts by eventfd"
    required KVM_CAP_IRQ_ROUTING "routes interrupt lines and messages"
    required KVM_CAP_IOEVENTFD "turns doorbell writes into eventfds"
    required KVM_CAP_EXT_CPUID "decides what CPUID says"
    required KVM_CAP_MP_STATE "saves which processors run, wait or halt"
    required KVM_CAP_VCPU_EVENTS "saves pending interrupts and exceptions"
    required KVM_CAP_DEBUGREGS "saves debug registers"
    required KVM_CAP_XSAVE "saves floating-point and vector registers"
    required KVM_CAP_XCRS "saves extended control registers"
    required KVM_CAP_ADJUST_CLOCK "saves the guest's clock"
    required KVM_CAP_IMMEDIATE_EXIT "lets a vCPU complete what it began and stop"
    optional KVM_CAP_READONLY_MEM "maps read-only memory"
    optional KVM_CAP_SIGNAL_MSI "sends single message-signalled interrupts"
    optional KVM_CAP_IOEVENTFD_ANY_LENGTH "makes doorbells of any width"
    optional KVM_CAP_TSC_CONTROL "gives guests a time stamp counter of another frequency"
    optional KVM_CAP_GET_TSC_KHZ "reads the time stamp counter's frequency"
    optional KVM_CAP_TSC_DEADLINE_TIMER "gives guests the local APIC's deadline timer"
    optional KVM_CAP_XSAVE2 "saves vector registers beyond 4096 bytes (AMX)"
    optional KVM_CAP_SET_GUEST_DEBUG "debugs guests by breakpoints and single steps"
    optional KVM_CAP_KVMCLOCK_CTRL "tells guests that they were paused"
}

impl Capability {
    /// What the host answers: 0 if it lacks the capability, and else 1 or a number that means
    /// something to the capability.
    pub(super) fn ask(&self, host: &Host) -> u32 {
        u32::try_from(host.check_extension_raw(self.number.into())).unwrap_or(0)
    }
}

/// Fails with the first required capability that the host lacks.
pub(super) fn check(ask: impl Fn(&Capability) -> u32) -> Result<(), CreateError> {
    let missing =
        CAPABILITIES.iter().find(|capability| capability.required && ask(capability) == 0);
    match missing {
        Some(&Capability { name, purpose, .. }) => Err(CreateError::Capability { name, purpose }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_has_everything_passes() {
        assert!(check(|_| 1).is_ok());
    }

    #[test]
    fn a_missing_optional_capability_is_no_error() {
        assert!(check(|capability| u32::from(capability.required)).is_ok());
    }

    #[test]
    fn a_missing_required_capability_is_named_with_its_purpose() {
        let error = check(|capability| u32::from(capability.name != "KVM_CAP_IRQFD")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this host's KVM lacks KVM_CAP_IRQFD, which raises interrupts by eventfd"
        );
    }
}
