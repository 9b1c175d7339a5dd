//! Going on in another machine.

use std::sync::Arc;

use super::{Guest, Seen, code, out};
use crate::{
    Hypervisor, StateError,
    conformance::{machine, within_limit},
};

/// Registers are neither read nor written between an access and its completion.
pub fn an_access_under_way_is_not_saved(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::READ_UNDER_WAY);
    let fresh = guest.vcpu.save().expect("a vCPU that has not run is saved");
    assert_eq!(guest.answering(&[0x5a]), Seen::In { port: 0x81, width: 1, len: 1 });
    let incomplete = |result| matches!(result, Err(StateError::Incomplete { index: 0 }));
    assert!(incomplete(guest.vcpu.save().map(drop)), "half an access is not saved");
    assert!(incomplete(guest.vcpu.restore(&fresh)), "half an access is not replaced");
    guest.vcpu.kicker().kick();
    assert_eq!(guest.next(), Seen::Interrupted);
    guest.vcpu.save().expect("a vCPU is saved after Interrupted");
}

/// A pause in the middle of a port read: the answer is committed before the state is complete, and
/// the guest goes on with it in another machine over the same RAM.
pub fn a_port_read_under_way_goes_on_in_another_machine(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::READ_UNDER_WAY);
    assert_eq!(guest.answering(&[0x5a]), Seen::In { port: 0x81, width: 1, len: 1 });
    guest.vcpu.kicker().kick();
    assert_eq!(guest.next(), Seen::Interrupted);
    let shared = guest.vm.save().expect("the machine is saved");
    let saved = guest.vcpu.save().expect("the vCPU is saved");
    let Guest { vm, vcpu, ram } = guest;
    drop((vcpu, vm));

    let vm = machine(hypervisor);
    vm.map(Arc::clone(&ram)).expect("RAM is mapped");
    let mut vcpu = vm.create_vcpu(0).expect("a vCPU is created");
    vm.restore(&shared).expect("the machine is restored");
    vcpu.restore(&saved).expect("the vCPU is restored");
    let mut guest = Guest { vm, vcpu, ram };
    within_limit("a guest in another machine", move || {
        assert_eq!(guest.next(), out(0x80, &[0x5a]));
        assert_eq!(guest.peek(0x3000), [0x5a]);
        assert_eq!(guest.next(), out(0x80, &[0x34, 0x12]));
    });
}
