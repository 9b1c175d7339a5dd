//! The MMIO transport (virtio 1.3 §4.2).

mod registers;

use std::{
    io,
    sync::{Arc, Mutex},
};

use device::{Attach, AttachError, IoAddr, Irq, Node, Wiring};

use self::registers::{CONFIG, NOTIFY, Registers, Saved};
use crate::{Device, Handle, interrupt::StatusLine, setup::Setup, worker::Worker};

/// Length of the registers without the configuration space, as the field has it.
const LEN: u64 = 0x200;

/// A virtio device that is to be attached with registers in memory, one interrupt line, and one
/// doorbell for each queue. Attaching it gives a [`Handle`].
#[derive(Debug)]
pub struct MmioTransport<D> {
    device: D,
}

/// Puts `device` on the MMIO transport.
pub fn mmio<D: Device>(device: D) -> MmioTransport<D> {
    MmioTransport { device }
}

#[cfg(feature = "test-utils")]
impl<D> MmioTransport<D> {
    /// The device, unattached.
    pub(crate) fn into_device(self) -> D {
        self.device
    }
}

impl<D: Device> Attach for MmioTransport<D> {
    type Handle = Handle<D>;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<Handle<D>, AttachError> {
        let impossible = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let len = u64::try_from(self.device.config().len()).map_err(io::Error::other)?;
        let len = LEN.saturating_add(len);
        let (gsi, line) = wiring.irq(Irq::Any)?;
        let interrupt = Arc::new(StatusLine::new(line));
        let worker = Worker::new(self.device, wiring.memory(), interrupt.clone());
        let mut worker = worker.map_err(impossible)?;

        let window = wiring.window(len)?;
        let at = IoAddr::Mmio(window.first().saturating_add(NOTIFY));
        let mut doorbells = Vec::new();
        for index in (0..).take(worker.queues()) {
            doorbells.push(wiring.doorbell(at, Some(index))?);
        }
        let bells = doorbells.iter().map(device::EventFd::try_clone).collect::<Result<_, _>>()?;
        worker.connect(bells);

        let worker = Arc::new(Mutex::new(worker));
        let setup = Setup::new(Arc::clone(&worker), doorbells);
        let registers = Arc::new(Registers::new(setup, interrupt));
        wiring.mmio(window, registers.clone());
        wiring.poll(worker.clone());
        wiring.persist(Arc::new(Mutex::new(Saved(registers))));
        wiring.announce(Node::VirtioMmio { base: window.first(), len, gsi });
        Ok(Handle::new(worker))
    }
}

// The configuration space lies whole inside the window.
const _: () = assert!(CONFIG <= LEN);
