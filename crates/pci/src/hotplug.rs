//! How the guest learns of devices that come and go (ACPI 6.5 §9.13): three registers, and a line.

use std::sync::Arc;

use device::{AccessError, Action, BusDevice};

use crate::root::Shared;

/// Bytes of the registers.
pub(crate) const LEN: u64 = 12;
/// What has come and what is to go, a bit for each device number; reading forgets.
const CAME: u64 = 0;
const LEAVING: u64 = 4;
/// What the guest has let go of, written with a bit for each device number.
const EJECT: u64 = 8;

/// What the guest has not read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) came: u32,
    pub(crate) leaving: u32,
}

/// The registers.
pub(crate) struct Controller(pub(crate) Arc<Shared>);

impl BusDevice for Controller {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let data: &mut [u8; 4] = data.try_into().map_err(|_| AccessError::Width)?;
        let bits = match offset {
            CAME => self.0.take_changes(|changes| &mut changes.came),
            LEAVING => self.0.take_changes(|changes| &mut changes.leaving),
            EJECT => 0,
            _ => return Err(AccessError::NoRegister),
        };
        *data = bits.to_le_bytes();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        let data: [u8; 4] = data.try_into().map_err(|_| AccessError::Width)?;
        match offset {
            CAME | LEAVING => {}
            EJECT => self.0.eject(u32::from_le_bytes(data)),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(Action::Continue)
    }
}

/// The bit of a device number, which is below 32.
pub(crate) fn bit(device: u8) -> u32 {
    1_u32.checked_shl(device.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use device::{Bdf, Node, Persist};

    use super::*;
    use crate::{
        RemoveError, lock,
        testing::{HOTPLUG, TestBus, TestFunction},
    };

    /// The line of a controller on a bus that is nothing else.
    const GSI: u32 = 16;

    fn raised(bus: &TestBus) -> u64 {
        bus.wiring.raised(GSI).unwrap()
    }

    fn plug(bus: &TestBus, tag: u8) -> Bdf {
        let function = Arc::new(TestFunction::with_memory(tag, 1 << 20));
        let at = bus.root.insert_hot(function).unwrap();
        bus.root.announce(at);
        at
    }

    #[test]
    fn the_controller_is_announced() {
        let bus = TestBus::new();
        assert!(bus.wiring.nodes.contains(&Node::PciHotplug { base: HOTPLUG, gsi: GSI }));
    }

    #[test]
    fn a_device_that_comes_interrupts_and_is_told_once() {
        let bus = TestBus::new();
        bus.insert(TestFunction::with_memory(1, 0x1000));
        assert_eq!((raised(&bus), bus.load(HOTPLUG)), (0, 0));
        let at = plug(&bus, 2);
        assert_eq!((at.device(), raised(&bus)), (2, 1));
        assert_eq!([bus.load(HOTPLUG), bus.load(HOTPLUG)], [1 << 2, 0]);
        assert_eq!(bus.read(2, 0) >> 16, 0x1002);
    }

    #[test]
    fn a_device_stays_until_the_guest_lets_go_of_it() {
        let bus = TestBus::new();
        let (device, function) = bus.insert(TestFunction::with_memory(1, 0x1000));
        let at = Bdf::new(0, device, 0).unwrap();
        let base = bus.root.mapped(at, 0).unwrap();
        bus.root.request_removal(at).unwrap();
        assert_eq!((raised(&bus), bus.load(HOTPLUG + 4)), (1, 1 << device));
        assert_eq!(bus.tag(base), 1);

        bus.store(HOTPLUG + 8, 1 << device);

        assert_eq!((bus.tag(base), bus.read(device, 0)), (0xff, u32::MAX));
        assert_eq!(*lock(&bus.host.ejected), [at]);
        assert_eq!(Arc::strong_count(&function), 1, "the bus keeps nothing of it");
        assert_eq!(bus.root.request_removal(at), Err(RemoveError::Absent(at)));
    }

    #[test]
    fn a_slot_can_be_used_again() {
        let bus = TestBus::new();
        for tag in 1..=100 {
            let at = plug(&bus, tag);
            assert_eq!(at.device(), 1);
            bus.store(HOTPLUG + 8, 1 << 1);
        }
        assert_eq!(bus.load(HOTPLUG), 0, "what has come and gone is not told");
    }

    #[test]
    fn what_the_guest_does_not_know_yet_is_saved_and_told_later() {
        let from = TestBus::new();
        plug(&from, 1);
        from.root.request_removal(Bdf::new(0, 1, 0).unwrap()).unwrap();
        let saved = from.root.clone().save().unwrap();
        let to = TestBus::new();
        to.insert(TestFunction::with_memory(1, 0x1000));
        to.root.clone().restore(saved).unwrap();
        assert_eq!(raised(&to), 1);
        assert_eq!([0, 4].map(|register| to.load(HOTPLUG + register)), [1 << 1; 2]);
    }

    #[test]
    fn the_guest_cannot_let_go_of_what_it_was_not_told_of() {
        let bus = TestBus::new();
        let function = Arc::new(TestFunction::with_memory(1, 0x1000));
        let at = bus.root.insert_hot(function).unwrap();
        bus.store(HOTPLUG + 8, u32::MAX);
        assert_eq!(*lock(&bus.host.ejected), []);
        bus.root.announce(at);
        bus.store(HOTPLUG + 8, u32::MAX);
        assert_eq!(*lock(&bus.host.ejected), [at]);
    }

    #[test]
    fn the_next_in_a_slot_is_not_asked_to_go_in_place_of_the_last() {
        let bus = TestBus::new();
        let at = plug(&bus, 1);
        bus.root.request_removal(at).unwrap();
        // The guest has not read that.
        bus.store(HOTPLUG + 8, 1 << at.device());
        assert_eq!(plug(&bus, 2), at);
        assert_eq!(bus.load(HOTPLUG + 4), 0);
    }

    #[test]
    fn what_is_not_there_is_not_announced() {
        let bus = TestBus::new();
        bus.root.announce(Bdf::new(0, 3, 0).unwrap());
        assert_eq!((raised(&bus), bus.load(HOTPLUG)), (0, 0));
    }

    #[test]
    fn a_slot_is_taken_until_the_machine_has_forgotten_what_was_there() {
        let bus = TestBus::new();
        let (root, places) = (bus.root.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
        let seen = Arc::clone(&places);
        *lock(&bus.host.when_ejected) = Some(Box::new(move || {
            let function = Arc::new(TestFunction::with_memory(2, 0x1000));
            lock(&seen).push(root.insert_hot(function).unwrap().device());
        }));
        let at = plug(&bus, 1);
        bus.store(HOTPLUG + 8, 1 << at.device());
        assert_eq!((at.device(), lock(&places).as_slice()), (1, &[2][..]));
        *lock(&bus.host.when_ejected) = None;
        assert_eq!(plug(&bus, 3).device(), 1);
    }

    #[test]
    fn the_host_bridge_stays_whatever_is_asked() {
        let bus = TestBus::new();
        let bridge = Bdf::default();
        assert_eq!(bus.root.request_removal(bridge), Err(RemoveError::Bridge(bridge)));
        bus.store(HOTPLUG + 8, u32::MAX);
        assert_eq!(bus.read(0, 0), 0x0008_1b36);
        assert_eq!(*lock(&bus.host.ejected), []);
    }

    #[test]
    fn accesses_that_no_driver_makes_are_refused() {
        let bus = TestBus::new();
        plug(&bus, 1);
        let mut half = [0; 2];
        bus.buses.mmio.read(HOTPLUG, &mut half);
        assert_eq!(half, [0xff; 2]);
        bus.buses.mmio.write(HOTPLUG + 8, &[0xff]);
        bus.store(HOTPLUG, u32::MAX);
        assert_eq!(bus.load(HOTPLUG), 1 << 1);
    }
}
