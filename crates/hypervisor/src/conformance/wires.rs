//! Interrupt lines, messages and doorbells.

use arch::IoAddr;

use super::machine;
use crate::{EventFd, Hypervisor, MsiMessage, WireError};

/// Every IOAPIC line has events, as many as are asked for; a line beyond all is an error.
pub fn interrupt_lines_have_events(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    for gsi in (0..24).chain([4, 4]) {
        let event = vm.lines().irqfd(gsi).expect("a line has an event");
        event.write(1).expect("a line is raised");
    }
    match vm.lines().irqfd(u32::MAX) {
        Err(WireError::Gsi { gsi: u32::MAX, .. }) => {}
        other => panic!("there is no line {:#x}, but got {other:?}", u32::MAX),
    }
}

/// Every IOAPIC line has a level, which can be said again; a line beyond is an error.
pub fn interrupt_lines_have_levels(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    for gsi in 0..24 {
        for asserted in [false, true, true, false, false] {
            vm.lines().level(gsi, asserted).expect("a line has a level");
        }
    }
    for gsi in [24, u32::MAX] {
        match vm.lines().level(gsi, true) {
            Err(WireError::Gsi { gsi: found, .. }) if found == gsi => {}
            other => panic!("line {gsi:#x} is not the IOAPIC's, but got {other:?}"),
        }
    }
}

/// Where there are messages, they have the lines from 24 on, and can be changed and removed.
pub fn messages_have_lines_of_their_own(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let Some(msi) = vm.msi() else { return };
    let message = |data| Some(MsiMessage { address: 0xfee0_0000, data });
    match msi.route(23, message(0x40)) {
        Err(WireError::Gsi { gsi: 23, .. }) => {}
        other => panic!("line 23 is the IOAPIC's, but got {other:?}"),
    }
    let early = vm.lines().irqfd(25).expect("a line has an event before its message");
    msi.route(24, message(0x40)).expect("a message is routed");
    msi.route(25, message(0x41)).expect("a second message is routed");
    msi.route(24, message(0x42)).expect("a message is changed");
    let late = vm.lines().irqfd(24).expect("a line has an event after its message");
    for event in [&early, &late] {
        event.write(1).expect("a message is raised");
    }
    msi.route(24, None).expect("a message is removed");
    vm.lines().irqfd(4).expect("the other lines still have events");
}

/// A place, or a place and a value, has one event.
pub fn a_doorbell_has_one_event(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let bells = vm.doorbells();
    let events = [event(), event(), event()];
    for at in [IoAddr::Pio(0x500), IoAddr::Mmio(0xd000_0050)] {
        bells.listen(at, Some(1), &events[0]).expect("a doorbell has an event");
        bells.listen(at, Some(2), &events[1]).expect("another value has another event");
        match bells.listen(at, Some(2), &events[2]) {
            Err(WireError::Host { .. }) => {}
            other => panic!("{at:?} has an event for 2 already, but got {other:?}"),
        }
    }
    let anything = bells.listen(IoAddr::Mmio(0xd000_0060), None, &events[2]);
    anything.expect("a doorbell takes any value");
}

/// What was listened for can be given up, exactly that, and as often as it is listened for again: the
/// host keeps nothing of it.
pub fn a_doorbell_can_be_given_up(hypervisor: &dyn Hypervisor) {
    let vm = machine(hypervisor);
    let bells = vm.doorbells();
    let (one, other) = (event(), event());
    for (at, value) in [
        (IoAddr::Pio(0x500), None),
        (IoAddr::Pio(0x502), Some(1)),
        (IoAddr::Mmio(0xd000_0050), None),
        (IoAddr::Mmio(0xd000_0054), Some(0x1_0000)),
    ] {
        for _ in 0..MOVES {
            bells.listen(at, value, &one).expect("a doorbell has an event");
            bells.unlisten(at, value, &one).expect("a doorbell can be given up");
        }
        bells.listen(at, value, &one).expect("a doorbell has an event");
        let wrong = [(at, Some(7), &one), (at, value, &other), (IoAddr::Pio(0x600), value, &one)];
        for (at, value, event) in wrong {
            match bells.unlisten(at, value, event) {
                Err(WireError::Host { .. }) => {}
                found => panic!("there is no event for {value:?} at {at:?}, but got {found:?}"),
            }
        }
        bells.unlisten(at, value, &one).expect("a refusal gives nothing up");
        bells.listen(at, value, &other).expect("the place is free");
    }
}

/// A place that is not free again would be refused at once.
const MOVES: usize = 3;

fn event() -> EventFd {
    EventFd::new(libc::EFD_NONBLOCK).expect("the host has an event")
}
