//! The demo's own device: it adds up what the guest writes to it.

use std::sync::{Arc, Mutex};

use device::{AccessError, Action, Attach, AttachError, Mmio, MutBusDevice, Range, Wiring};

/// The one register: a write adds, a read gives the sum so far.
const SUM: u64 = 0;

/// A device with one register of 32 bits in memory space.
#[derive(Debug, Default)]
pub(super) struct Counter {
    sum: u32,
}

impl MutBusDevice for Counter {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        if offset != SUM {
            return Err(AccessError::NoRegister);
        }
        let Ok(data) = <&mut [u8; 4]>::try_from(data) else { return Err(AccessError::Width) };
        *data = self.sum.to_le_bytes();
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        if offset != SUM {
            return Err(AccessError::NoRegister);
        }
        let data = <[u8; 4]>::try_from(data).map_err(|_| AccessError::Width)?;
        self.sum = self.sum.wrapping_add(u32::from_le_bytes(data));
        Ok(Action::Continue)
    }
}

impl Attach for Counter {
    /// Where the device answers.
    type Handle = Range<Mmio>;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<Range<Mmio>, AttachError> {
        let at = wiring.window(4)?;
        wiring.mmio(at, Arc::new(Mutex::new(self)));
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use device::FakeWiring;

    use super::*;

    #[test]
    fn writes_add_up_and_a_read_gives_the_sum() {
        let mut wiring = FakeWiring::new().unwrap();
        let at = wiring.attach(Counter::default()).unwrap().first();
        let bus = wiring.freeze().unwrap().mmio;
        bus.write(at, &5_u32.to_le_bytes());
        bus.write(at, &u32::MAX.to_le_bytes());
        let mut sum = [0; 4];
        bus.read(at, &mut sum);
        assert_eq!(u32::from_le_bytes(sum), 4);
    }

    #[test]
    fn other_widths_and_offsets_are_refused() {
        let mut counter = Counter::default();
        assert_eq!(counter.write(SUM, &[1, 2]), Err(AccessError::Width));
        assert_eq!(counter.read(SUM, &mut [0]), Err(AccessError::Width));
        assert_eq!(counter.write(4, &[0; 4]), Err(AccessError::NoRegister));
        assert_eq!(counter.read(4, &mut [0; 4]), Err(AccessError::NoRegister));
        assert_eq!(counter.sum, 0);
    }
}
