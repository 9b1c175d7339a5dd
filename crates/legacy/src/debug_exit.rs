//! A port that ends the run with a code of the guest's choice (QEMU's `isa-debug-exit`).

use std::sync::{Arc, Mutex};

use device::{
    AccessError, Action, Attach, AttachError, MutBusDevice, Persist, Range, RestoreError,
    SaveError, Versioned, Wiring,
};
use serde::{Deserialize, Serialize};

const PORT: u16 = 0xf4;
const PORTS: u16 = 4;

/// Writing `value` to port 0xf4 asks for [`Action::Exit`] with code `value * 2 + 1`, low byte: never
/// 0, so that an exit by the guest cannot be taken for a success of the VMM.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugExit(());

impl DebugExit {
    /// The port, at its usual place.
    pub fn new() -> Self {
        Self(())
    }
}

impl Attach for DebugExit {
    type Handle = ();

    fn attach(self, wiring: &mut dyn Wiring) -> Result<(), AttachError> {
        let device = Arc::new(Mutex::new(self));
        wiring.pio(Range::new(PORT, PORTS)?, device.clone());
        wiring.persist(device);
        Ok(())
    }
}

fn check(offset: u64, width: usize) -> Result<(), AccessError> {
    match (offset, width) {
        (0, 1 | 2 | 4) => Ok(()),
        (0, _) => Err(AccessError::Width),
        _ => Err(AccessError::NoRegister),
    }
}

impl MutBusDevice for DebugExit {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        check(offset, data.len())?;
        data.fill(0);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        check(offset, data.len())?;
        // Only the low byte of `value * 2 + 1` is left of it.
        let low = data.first().copied().unwrap_or(0);
        Ok(Action::Exit(low << 1 | 1))
    }
}

/// Nothing: the port has no state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedDebugExit {}

impl Versioned for SavedDebugExit {
    const KIND: &'static str = "legacy.debug-exit";
    const VERSION: u32 = 1;
}

impl Persist for DebugExit {
    type State = SavedDebugExit;

    fn save(&mut self) -> Result<SavedDebugExit, SaveError> {
        Ok(SavedDebugExit {})
    }

    fn restore(&mut self, _: SavedDebugExit) -> Result<(), RestoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use device::FakeWiring;

    use super::*;

    #[test]
    fn the_code_is_twice_the_value_plus_one_at_every_width() {
        let mut wiring = FakeWiring::new().unwrap();
        wiring.attach(DebugExit::new()).unwrap();
        let pio = wiring.freeze().unwrap().pio;
        assert_eq!(pio.write(0xf4, &[0]), Action::Exit(1));
        assert_eq!(pio.write(0xf4, &[0x10, 0]), Action::Exit(0x21));
        assert_eq!(pio.write(0xf4, &[0x2a, 0, 0, 0]), Action::Exit(0x55));
        assert_eq!(pio.write(0xf4, &[0xff, 0xff, 0xff, 0xff]), Action::Exit(0xff));
        assert_eq!(pio.write(0xf5, &[1]), Action::Continue);
    }

    #[test]
    fn reading_gives_zero() {
        let mut data = [0xff; 4];
        DebugExit::new().read(0, &mut data).unwrap();
        assert_eq!(data, [0; 4]);
    }
}
