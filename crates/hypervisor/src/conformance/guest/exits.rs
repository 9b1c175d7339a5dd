//! Exits, and faults.

use arch::{CpuImage, DescriptorTable};

use super::{CODE, Guest, Seen, code, out};
use crate::{FaultReason, GuestDebug, Hypervisor, conformance::within_limit};

/// Port accesses of 1, 2 and 4 bytes, written and read.
pub fn port_accesses_have_their_width(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::WIDTHS);
    assert_eq!(guest.next(), out(0x80, &[0x11]));
    assert_eq!(guest.next(), out(0x80, &[0x33, 0x22]));
    assert_eq!(guest.next(), out(0x80, &[0x77, 0x66, 0x55, 0x44]));
    for (port, answer) in [(0x81, &b"a"[..]), (0x82, b"bc"), (0x84, b"defg")] {
        let width = answer.len();
        assert_eq!(guest.answering(answer), Seen::In { port, width, len: width });
        assert_eq!(guest.next(), out(0x80, answer));
    }
}

/// `rep insw` and `rep outsw` are two bytes wide, in however many exits they come.
pub fn strings_of_port_accesses_keep_their_width(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::STRINGS);
    let (mut read, mut written) = (0, Vec::new());
    loop {
        match guest.answering(b"ab") {
            Seen::In { port: 0x3f8, width: 2, len } => read += len,
            Seen::Out { port: 0x3f8, width: 2, data } => written.extend(data),
            Seen::Out { port: 0xf4, .. } => break,
            other => panic!("expected port accesses of two bytes, got {other:?}"),
        }
    }
    assert_eq!(read, 6);
    assert_eq!(written, b"ababab");
    assert_eq!(guest.peek(0x2000), *b"ababab");
}

/// Accesses where no RAM is have their address and length.
pub fn accesses_outside_ram_have_their_length(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::OUTSIDE);
    assert_eq!(guest.next(), Seen::Write { addr: 0xa_0000, data: vec![0x5a] });
    assert_eq!(guest.answering(&[0xcd, 0xab]), Seen::Read { addr: 0xa_0002, len: 2 });
    // The upper half of EAX is still zero.
    assert_eq!(guest.next(), Seen::Write { addr: 0xa_0004, data: vec![0xcd, 0xab, 0, 0] });
}

/// A guest without handlers that faults is stopped, and tells where.
pub fn a_triple_fault_is_told_with_registers(hypervisor: &dyn Hypervisor) {
    let no_handlers = DescriptorTable::default();
    let image = CpuImage::protected_mode(u64::from(CODE), no_handlers);
    let mut guest = Guest::with_image(hypervisor, code::UNDEFINED, &image);
    let Seen::Fault(fault) = guest.next() else { panic!("expected a fault") };
    assert_eq!(fault.reason, FaultReason::TripleFault);
}

/// A guest that never exits by itself is interrupted by a kick.
pub fn a_guest_that_spins_is_interrupted(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::SPIN);
    let kicker = guest.vcpu.kicker();
    let (spins, spinning) = std::sync::mpsc::channel();
    let kick = std::thread::spawn(move || spinning.recv().map(|()| kicker.kick()));
    within_limit("a guest that spins", move || {
        assert_eq!(guest.next(), out(0xf5, &[0]));
        spins.send(()).expect("the kicking thread lives");
        assert_eq!(guest.next(), Seen::Interrupted);
    });
    kick.join().expect("the kicking thread ends").expect("the guest started to spin");
}

/// Where there is a debugger, it stops after every instruction, and then no more.
pub fn a_single_step_stops_after_each_instruction(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::STEPS);
    let Some(debugger) = guest.vcpu.debugger() else { return };
    let step = GuestDebug { single_step: true, ..GuestDebug::default() };
    debugger.stop_at(&step).expect("single steps are turned on");
    assert_eq!(guest.next(), Seen::Debug(u64::from(CODE) + 1));
    assert_eq!(guest.next(), Seen::Debug(u64::from(CODE) + 2));
    let Some(debugger) = guest.vcpu.debugger() else { panic!("the debugger is gone") };
    debugger.stop_at(&GuestDebug::default()).expect("single steps are turned off");
    assert_eq!(guest.next(), out(0xf4, &[1]));
}

/// Where there is a debugger, it stops before the instruction at a breakpoint.
pub fn breakpoints_stop_before_their_instruction(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::STEPS);
    let Some(debugger) = guest.vcpu.debugger() else { return };
    let at = u64::from(CODE) + 2;
    let what = GuestDebug { single_step: false, breakpoints: [None, Some(at), None, None] };
    debugger.stop_at(&what).expect("a breakpoint is set");
    assert_eq!(guest.next(), Seen::Debug(at));
    let Some(debugger) = guest.vcpu.debugger() else { panic!("the debugger is gone") };
    debugger.stop_at(&GuestDebug::default()).expect("the breakpoint is removed");
    assert_eq!(guest.next(), out(0xf4, &[1]));
}
