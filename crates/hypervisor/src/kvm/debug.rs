//! Breakpoints and single steps.

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, kvm_guest_debug,
};

use super::{class::refused, vcpu::KvmVcpu};
use crate::{Debugger, GuestDebug, StateError};

/// DR7: bit 10 reads as one; exact breakpoints, as old processors want (Intel SDM vol. 3B, 18.2.4).
const DR7: u64 = 0x600;

impl Debugger for KvmVcpu {
    fn stop_at(&mut self, what: &GuestDebug) -> Result<(), StateError> {
        self.fd.set_guest_debug(&request(what)).map_err(refused("breakpoints"))
    }
}

fn request(what: &GuestDebug) -> kvm_guest_debug {
    let mut request = kvm_guest_debug::default();
    if what.single_step {
        request.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    }
    let (addresses, controls) = request.arch.debugreg.split_at_mut(4);
    let mut enabled = 0;
    for ((number, address), wanted) in (0u32..).zip(addresses).zip(what.breakpoints) {
        let Some(wanted) = wanted else { continue };
        *address = wanted;
        enabled |= 2 << (2 * number); // its G bit; type 0 and length 0 are execution
    }
    if enabled != 0 {
        request.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        if let Some(dr7) = controls.last_mut() {
            *dr7 = DR7 | enabled;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_stop_at_turns_debugging_off() {
        assert_eq!(request(&GuestDebug::default()).control, 0);
    }

    #[test]
    fn each_breakpoint_has_its_register_and_its_enable_bit() {
        let breakpoints = [Some(0x7c00), None, None, Some(0x10_0000)];
        let request = request(&GuestDebug { single_step: false, breakpoints });
        assert_eq!(request.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
        assert_eq!(request.arch.debugreg, [0x7c00, 0, 0, 0x10_0000, 0, 0, 0, 0x682]);
    }
}
