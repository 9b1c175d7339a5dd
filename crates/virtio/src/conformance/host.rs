//! What a PCI bus needs of its host, in a test.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use device::EventFd;
use pci::{IntxLines, Message, MsiVector};

/// Where interrupt pins lead to.
const INTX: IntxLines = IntxLines([20, 21, 22, 23]);

/// Counts messages by their data, keeps the levels of lines, and the events that are listened for by
/// their address.
#[derive(Debug, Default)]
pub(super) struct Host {
    listening: Mutex<BTreeMap<u64, EventFd>>,
    delivered: Arc<Mutex<BTreeMap<u32, u64>>>,
    /// Whether each line is asserted, and how often it was.
    lines: Mutex<BTreeMap<u32, (bool, u64)>>,
}

impl Host {
    /// Whether the line of device number `device` is asserted, and how often it was.
    pub(super) fn line(&self, device: u8) -> (bool, u64) {
        lock(&self.lines).get(&INTX.line(device)).copied().unwrap_or_default()
    }

    /// How many messages were delivered.
    pub(super) fn delivered(&self) -> u64 {
        lock(&self.delivered).values().sum()
    }

    /// How many messages with this data were delivered.
    pub(super) fn delivered_as(&self, data: u32) -> u64 {
        lock(&self.delivered).get(&data).copied().unwrap_or(0)
    }

    /// The addresses of the doorbells.
    pub(super) fn listening(&self) -> Vec<u64> {
        lock(&self.listening).keys().copied().collect()
    }

    /// Signals the doorbell at `address`: whether there is one.
    pub(super) fn ring(&self, address: u64) -> bool {
        lock(&self.listening).get(&address).is_some_and(|event| event.write(1).is_ok())
    }
}

impl pci::Host for Host {
    fn msi(&self) -> io::Result<Arc<dyn MsiVector>> {
        let delivered = Arc::clone(&self.delivered);
        Ok(Arc::new(Vector { delivered, message: Mutex::default() }))
    }

    fn intx(&self) -> Option<IntxLines> {
        Some(INTX)
    }

    fn level(&self, gsi: u32, asserted: bool) -> io::Result<()> {
        let mut lines = lock(&self.lines);
        let (level, rises) = lines.entry(gsi).or_default();
        *rises += u64::from(asserted && !*level);
        *level = asserted;
        Ok(())
    }

    fn listen(&self, address: u64, event: &EventFd) -> io::Result<()> {
        let mut listening = lock(&self.listening);
        if listening.contains_key(&address) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        listening.insert(address, event.try_clone()?);
        Ok(())
    }

    fn unlisten(&self, address: u64, _: &EventFd) -> io::Result<()> {
        let gone = lock(&self.listening).remove(&address);
        gone.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct Vector {
    delivered: Arc<Mutex<BTreeMap<u32, u64>>>,
    message: Mutex<Message>,
}

impl MsiVector for Vector {
    fn program(&self, message: Message) -> io::Result<()> {
        *lock(&self.message) = message;
        Ok(())
    }

    fn raise(&self) -> io::Result<()> {
        let data = lock(&self.message).data;
        *lock(&self.delivered).entry(data).or_default() += 1;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
