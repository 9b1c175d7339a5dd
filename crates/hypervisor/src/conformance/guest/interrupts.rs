//! Interrupts and doorbells.

use arch::IoAddr;

use super::{Guest, Seen, code, out};
use crate::{EventFd, Hypervisor, MsiMessage, conformance::within_limit};

/// The vector of the message.
const VECTOR: u32 = 0x50;

/// `hlt` waits for the line's interrupt, which goes through the PIC.
pub fn a_halted_vcpu_wakes_by_its_interrupt(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::HALT);
    guest.handler(0x24, 0x1800, code::PIC_HANDLER);
    let line = guest.vm.lines().irqfd(4).expect("line 4 has an event");
    within_limit("an interrupt by line", move || {
        assert_eq!(guest.next(), out(0xf5, &[0xef]));
        line.write(1).expect("the line is raised");
        assert_eq!(guest.next(), out(0xf6, &[0xef]));
        assert_eq!(guest.next(), out(0xf4, &[0x20]));
    });
}

/// A level-triggered line interrupts as long as it is asserted, after each end of interrupt again.
pub fn an_asserted_line_interrupts_until_it_is_low(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, &[code::LEVEL, code::HALT, code::AGAIN].concat());
    guest.handler(0x24, 0x1800, code::HANDLER);
    within_limit("interrupts by level", move || {
        let level = |guest: &Guest, asserted| {
            guest.vm.lines().level(4, asserted).expect("line 4 has a level");
        };
        assert_eq!(guest.next(), out(0xf5, &[0xef]));
        level(&guest, true);
        assert_eq!(guest.next(), out(0xf6, &[0xef]));
        // Hosts that emulate the guest's code may interrupt it some instructions late.
        let interrupts = |guest: &mut Guest| {
            let seen: Vec<Seen> = (0..8).map(|_| guest.next()).collect();
            seen.iter().filter(|seen| **seen == out(0xf6, &[0x20])).count()
        };
        assert!(interrupts(&mut guest) >= 2, "an asserted line interrupts again");
        level(&guest, false);
        assert_eq!(interrupts(&mut guest), 0, "a line that is low interrupts");
    });
}

/// A message interrupts, sent by itself and by its line.
pub fn a_message_interrupts(hypervisor: &dyn Hypervisor) {
    let message = MsiMessage { address: 0xfee0_0000, data: VECTOR };
    for by_line in [true, false] {
        let mut guest = Guest::new(hypervisor, code::X2APIC);
        guest.handler(VECTOR.into(), 0x1800, code::HANDLER);
        let Some(msi) = guest.vm.msi() else { return };
        msi.route(24, Some(message)).expect("the message is routed");
        let line = guest.vm.lines().irqfd(24).expect("the message's line has an event");
        within_limit("an interrupt by message", move || {
            assert_eq!(guest.next(), out(0xf5, &[0xff]));
            if by_line {
                line.write(1).expect("the line is raised");
            } else {
                let msi = guest.vm.msi().expect("there still are messages");
                msi.send(message).expect("the message is sent");
            }
            assert_eq!(guest.next(), out(0xf6, &[0xff]));
            assert_eq!(guest.next(), out(0xf4, &[0xff]));
        });
    }
}

/// A doorbell takes the writes of its value; others are exits.
pub fn doorbells_ring_without_an_exit(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::DOORBELL);
    let at = IoAddr::Pio(0x500);
    let bell = EventFd::new(libc::EFD_NONBLOCK).expect("the host has an event");
    guest.vm.doorbells().listen(at, Some(0x1234), &bell).expect("the doorbell has an event");
    assert_eq!(guest.next(), Seen::Out { port: 0x500, width: 2, data: vec![0x35, 0x12] });
    assert_eq!(bell.read().ok(), Some(1), "the first write rang");
}

/// Writes to the place of a doorbell that was given up are exits.
pub fn doorbells_that_were_given_up_are_exits(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::DOORBELL);
    let at = IoAddr::Pio(0x500);
    let bell = EventFd::new(libc::EFD_NONBLOCK).expect("the host has an event");
    guest.vm.doorbells().listen(at, None, &bell).expect("the doorbell has an event");
    guest.vm.doorbells().unlisten(at, None, &bell).expect("the doorbell can be given up");
    for low in [0x34, 0x35] {
        assert_eq!(guest.next(), Seen::Out { port: 0x500, width: 2, data: vec![low, 0x12] });
    }
    assert_eq!(bell.read().ok(), None, "no write rang");
}
