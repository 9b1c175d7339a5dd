//! Ports that take one byte of news at a time: POST codes, Bochs, SeaBIOS.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use device::{
    AccessError, Action, Attach, AttachError, MutBusDevice, Persist, Range, RestoreError,
    SaveError, Versioned, Wiring,
};
use serde::{Deserialize, Serialize};

use crate::{lock, output::Output};

/// What the consoles of Bochs and SeaBIOS answer, so that guests know they are there.
const CONSOLE_PRESENT: u8 = 0xe9;

/// A port to which firmware and early kernels write what they are doing.
#[derive(Debug)]
pub struct DebugPort {
    port: u16,
    /// What reads return; `None`: the last byte written.
    answer: Option<u8>,
    out: Output,
}

impl DebugPort {
    /// Port 0x80: power-on self test codes, and the port that Linux writes to when it wants a short
    /// delay. Reads return the last code.
    pub fn post() -> Self {
        let out = Output::new("post", Box::new(io::sink()));
        Self { port: 0x80, answer: None, out }
    }

    /// Port 0xe9, Bochs's console: writes go to `out`, reads return 0xe9.
    pub fn bochs(out: impl Write + Send + 'static) -> Self {
        let out = Output::new("debug port 0xe9", Box::new(out));
        Self { port: 0xe9, answer: Some(CONSOLE_PRESENT), out }
    }

    /// Port 0x402, SeaBIOS's and OVMF's console: writes go to `out`, reads return 0xe9.
    pub fn seabios(out: impl Write + Send + 'static) -> Self {
        let out = Output::new("debug port 0x402", Box::new(out));
        Self { port: 0x402, answer: Some(CONSOLE_PRESENT), out }
    }
}

impl Attach for DebugPort {
    type Handle = DebugHandle;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<DebugHandle, AttachError> {
        let port = Port { answer: self.answer, out: self.out, last: None };
        let port = Arc::new(Mutex::new(port));
        wiring.pio(Range::new(self.port, 1)?, port.clone());
        wiring.persist(port.clone());
        Ok(DebugHandle(port))
    }
}

/// What the rest of the program can ask of a debug port. Clones ask the same port.
#[derive(Clone, Debug)]
pub struct DebugHandle(Arc<Mutex<Port>>);

impl DebugHandle {
    /// The last byte that the guest wrote: on port 0x80, how far it got.
    pub fn last(&self) -> Option<u8> {
        lock(&self.0).last
    }

    /// How many bytes the sink refused.
    pub fn lost(&self) -> u64 {
        lock(&self.0).out.lost().count()
    }
}

#[derive(Debug)]
struct Port {
    answer: Option<u8>,
    out: Output,
    last: Option<u8>,
}

impl MutBusDevice for Port {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        match (offset, data) {
            (0, [byte]) => *byte = self.answer.or(self.last).unwrap_or(0xff),
            (0, _) => return Err(AccessError::Width),
            _ => return Err(AccessError::NoRegister),
        }
        self.out.flush();
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        match (offset, data) {
            (0, [byte]) => {
                self.last = Some(*byte);
                self.out.put(*byte);
                Ok(Action::Continue)
            }
            (0, _) => Err(AccessError::Width),
            _ => Err(AccessError::NoRegister),
        }
    }
}

/// The last byte written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedDebugPort {
    last: Option<u8>,
}

impl Versioned for SavedDebugPort {
    const KIND: &'static str = "legacy.debug-port";
    const VERSION: u32 = 1;
}

impl Persist for Port {
    type State = SavedDebugPort;

    fn save(&mut self) -> Result<SavedDebugPort, SaveError> {
        Ok(SavedDebugPort { last: self.last })
    }

    fn restore(&mut self, state: SavedDebugPort) -> Result<(), RestoreError> {
        self.last = state.last;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use device::FakeWiring;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(data)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_last_post_code_is_remembered_and_read_back() {
        let mut wiring = FakeWiring::new().unwrap();
        let handle = wiring.attach(DebugPort::post()).unwrap();
        let pio = wiring.freeze().unwrap().pio;
        assert_eq!(handle.last(), None);
        pio.write(0x80, &[0x12]);
        pio.write(0x80, &[0x34]);
        let mut data = [0];
        pio.read(0x80, &mut data);
        assert_eq!((handle.last(), data), (Some(0x34), [0x34]));
        wiring.save_and_restore().unwrap();
        assert_eq!(handle.last(), Some(0x34));
    }

    #[test]
    fn the_consoles_say_that_they_are_there_and_pass_bytes_on() {
        let (bochs, seabios) = (Shared::default(), Shared::default());
        let mut wiring = FakeWiring::new().unwrap();
        wiring.attach(DebugPort::bochs(bochs.clone())).unwrap();
        wiring.attach(DebugPort::seabios(seabios.clone())).unwrap();
        let pio = wiring.freeze().unwrap().pio;
        for (port, out) in [(0xe9, bochs), (0x402, seabios)] {
            let mut data = [0];
            pio.read(port, &mut data);
            assert_eq!(data, [0xe9]);
            pio.write(port, b"h");
            pio.write(port, b"i");
            assert_eq!(*out.0.lock().unwrap(), b"hi");
        }
    }

    #[test]
    fn a_flood_into_a_full_disk_is_counted() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut wiring = FakeWiring::new().unwrap();
        let handle = wiring.attach(DebugPort::bochs(full)).unwrap();
        let pio = wiring.freeze().unwrap().pio;
        for _ in 0..1000 {
            pio.write(0xe9, b"x");
        }
        assert_eq!(handle.lost(), 1000);
    }
}
