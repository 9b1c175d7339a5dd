//! The port by which a guest's kernel says that it has crashed (QEMU's `pvpanic`).

use std::sync::{Arc, Mutex};

use device::{
    AccessError, Action, Attach, AttachError, MutBusDevice, Node, Persist, Range, RestoreError,
    SaveError, Versioned, Wiring,
};
use serde::{Deserialize, Serialize};

use crate::{lock, tally::Tally};

const PORT: u16 = 0x505;
/// The guest has panicked and will not go on.
const PANICKED: u8 = 1 << 0;
/// The guest has panicked and runs a crash kernel now.
const CRASH_LOADED: u8 = 1 << 1;

/// Port 0x505: a panic asks for [`Action::Panic`]; one that the guest handles with a crash kernel is
/// counted, and the guest runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pvpanic(());

impl Pvpanic {
    /// The port, at its usual place.
    pub fn new() -> Self {
        Self(())
    }
}

impl Attach for Pvpanic {
    type Handle = PvpanicHandle;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<PvpanicHandle, AttachError> {
        let port = Arc::new(Mutex::new(Port::default()));
        wiring.pio(Range::new(PORT, 1)?, port.clone());
        wiring.persist(port.clone());
        wiring.announce(Node::Pvpanic { port: PORT });
        Ok(PvpanicHandle(port))
    }
}

/// What the rest of the program can ask of the port. Clones ask the same port.
#[derive(Clone, Debug)]
pub struct PvpanicHandle(Arc<Mutex<Port>>);

impl PvpanicHandle {
    /// How often the guest has said that it went on with a crash kernel.
    pub fn crash_kernels(&self) -> u64 {
        lock(&self.0).crash_kernels.count()
    }
}

#[derive(Debug, Default)]
struct Port {
    crash_kernels: Tally,
}

impl MutBusDevice for Port {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        match (offset, data) {
            (0, [byte]) => *byte = PANICKED | CRASH_LOADED,
            (0, _) => return Err(AccessError::Width),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        let event = match (offset, data) {
            (0, [event]) => *event,
            (0, _) => return Err(AccessError::Width),
            _ => return Err(AccessError::NoRegister),
        };
        if event & PANICKED != 0 {
            return Ok(Action::Panic);
        }
        if event & CRASH_LOADED != 0
            && let Some(count) = self.crash_kernels.add(1)
        {
            log::warn!("the guest has crashed and runs its crash kernel ({count} so far)");
        }
        Ok(Action::Continue)
    }
}

/// Nothing: what the guest has reported is the host's to remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPvpanic {}

impl Versioned for SavedPvpanic {
    const KIND: &'static str = "legacy.pvpanic";
    const VERSION: u32 = 1;
}

impl Persist for Port {
    type State = SavedPvpanic;

    fn save(&mut self) -> Result<SavedPvpanic, SaveError> {
        Ok(SavedPvpanic {})
    }

    fn restore(&mut self, _: SavedPvpanic) -> Result<(), RestoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use device::FakeWiring;

    use super::*;

    #[test]
    fn a_panic_stops_the_machine_and_a_crash_kernel_does_not() {
        let mut wiring = FakeWiring::new().unwrap();
        let handle = wiring.attach(Pvpanic::new()).unwrap();
        let pio = wiring.freeze().unwrap().pio;
        let mut events = [0];
        pio.read(0x505, &mut events);
        assert_eq!(events, [3]);
        assert_eq!(pio.write(0x505, &[2]), Action::Continue);
        assert_eq!(handle.crash_kernels(), 1);
        assert_eq!(pio.write(0x505, &[0xfc]), Action::Continue);
        assert_eq!(pio.write(0x505, &[1]), Action::Panic);
        assert_eq!(wiring.nodes, [Node::Pvpanic { port: 0x505 }]);
    }
}
