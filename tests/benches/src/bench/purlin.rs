//! Purlin's side of the exit benchmarks: buses as full as those of a whole machine, with a device
//! that counts.

use std::sync::{Arc, Mutex, PoisonError};

use bus::{AccessError, Action, BusBuilder, BusDevice, Buses, Mmio, MutBusDevice, Pio, Range};
use floor::guest::{ADDRESS, PORT};

use crate::error::Result;

/// The port ranges that a PC's legacy devices claim, first port and length.
const PORTS: [(u16, u16); 11] = [
    (0x60, 1),
    (0x64, 1),
    (0x70, 2),
    (0x80, 1),
    (0xe9, 1),
    (0xf4, 1),
    (0x2f8, 8),
    (0x3f8, 8),
    (0x402, 1),
    (PORT, 1),
    (0x600, 8),
];
/// Windows as of eight virtio devices.
const WINDOWS: [u64; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
const WINDOW: u64 = 0x1000;
const FIRST_WINDOW: u64 = 0xc000_0000;

/// A register of one byte, which counts how often it is used.
#[derive(Debug, Default)]
pub(super) struct Register {
    value: u8,
    uses: u64,
}

impl MutBusDevice for Register {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> core::result::Result<(), AccessError> {
        let ([byte], 0) = (data, offset) else { return Err(AccessError::Width) };
        self.uses += 1;
        *byte = self.value;
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> core::result::Result<Action, AccessError> {
        let ([byte], 0) = (data, offset) else { return Err(AccessError::Width) };
        self.uses += 1;
        self.value = *byte;
        Ok(Action::Continue)
    }
}

/// Buses with one device at every claim, behind its lock as usual.
pub(super) struct Wired {
    pub(super) buses: Buses,
    register: Arc<Mutex<Register>>,
}

impl Wired {
    pub(super) fn new() -> Result<Self> {
        let register = Arc::new(Mutex::new(Register::default()));
        let device: Arc<dyn BusDevice> = register.clone();
        let mut pio = BusBuilder::<Pio>::new();
        for (first, len) in PORTS {
            pio.claim("port", Range::new(first, len)?, device.clone());
        }
        let mut mmio = BusBuilder::<Mmio>::new();
        mmio.claim("memory", Range::new(ADDRESS, WINDOW)?, device.clone());
        for number in WINDOWS {
            let first = FIRST_WINDOW + number * WINDOW;
            mmio.claim("window", Range::new(first, WINDOW)?, device.clone());
        }
        Ok(Self { buses: Buses { pio: pio.freeze()?, mmio: mmio.freeze()? }, register })
    }

    /// How often the device was used.
    pub(super) fn uses(&self) -> u64 {
        self.register.lock().unwrap_or_else(PoisonError::into_inner).uses
    }
}
