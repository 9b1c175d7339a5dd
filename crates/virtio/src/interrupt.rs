//! How a worker gets the driver's attention.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use device::IrqLine;

/// A transport's interrupts, as its worker raises them.
pub(crate) trait Interrupt: Send + Sync {
    /// Buffers of queue number `queue` were used.
    fn used(&self, queue: u16);
    /// The configuration, or the device's status, has changed.
    fn config(&self);
    /// The device was reset: nothing is pending any more.
    fn clear(&self);
}

/// The bit of used buffers.
pub(crate) const USED: u32 = 1;
/// The bit of a changed configuration.
pub(crate) const CONFIG: u32 = 2;

/// One line and its status bits (virtio 1.3 §4.2.2: `InterruptStatus`). Outside every lock, so that
/// the guest's acknowledge never waits for a device.
#[derive(Debug)]
pub(crate) struct StatusLine {
    bits: AtomicU32,
    line: IrqLine,
    complained: AtomicBool,
}

impl StatusLine {
    pub(crate) fn new(line: IrqLine) -> Self {
        Self { bits: AtomicU32::new(0), line, complained: AtomicBool::new(false) }
    }

    pub(crate) fn bits(&self) -> u32 {
        self.bits.load(SeqCst)
    }

    pub(crate) fn acknowledge(&self, bits: u32) {
        self.bits.fetch_and(!bits, SeqCst);
    }

    /// Replaces the bits by saved ones, and raises the line if there are any.
    pub(crate) fn restore(&self, bits: u32) {
        self.bits.store(bits, SeqCst);
        if bits != 0 {
            self.raise();
        }
    }

    fn set(&self, bit: u32) {
        self.bits.fetch_or(bit, SeqCst);
        self.raise();
    }

    fn raise(&self) {
        if let Err(error) = self.line.raise()
            && !self.complained.swap(true, SeqCst)
        {
            log::error!("an interrupt of a virtio device is lost: {error}");
        }
    }
}

impl Interrupt for StatusLine {
    fn used(&self, _: u16) {
        self.set(USED);
    }

    fn config(&self) {
        self.set(CONFIG);
    }

    fn clear(&self) {
        self.bits.store(0, SeqCst);
    }
}
