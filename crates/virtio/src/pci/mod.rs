//! The PCI transport (virtio 1.3 §4.1), modern devices only.

mod common;
mod function;
mod identity;
mod layout;
mod vectors;

use std::{
    io,
    sync::{Arc, Mutex},
};

use device::{Attach, AttachError, EventFd, Wiring};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

use self::{
    function::{Function, Saved},
    layout::Layout,
    vectors::Vectors,
};
use crate::{Device, Handle, setup::Setup, worker::Worker};

/// A virtio device that is to be attached to the machine's PCI bus. Attaching it gives a [`Handle`].
///
/// It is a modern device (revision 1) with all its structures in one 32-bit memory BAR, one doorbell
/// for each queue, and MSI-X: one vector for the configuration and one for each queue, up to 128 in all.
/// A driver that does not enable MSI-X is interrupted by INTA, as long as the ISR status is not zero.
///
/// While the driver has bus mastering switched off, no queue is served.
#[derive(Debug)]
pub struct PciTransport<D> {
    device: D,
}

/// Puts `device` on the PCI transport.
pub fn pci<D: Device>(device: D) -> PciTransport<D> {
    PciTransport { device }
}

#[cfg(feature = "test-utils")]
impl<D> PciTransport<D> {
    /// The device, unattached.
    pub(crate) fn into_device(self) -> D {
        self.device
    }
}

impl<D: Device> Attach for PciTransport<D> {
    type Handle = Handle<D>;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<Handle<D>, AttachError> {
        let impossible = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let identity = identity::of(D::ID)?;
        let layout = Layout::new(self.device.queues().len(), self.device.config().len())?;
        let vectors = Arc::new(Vectors::new(layout.queues(), layout.vectors()));
        let worker = Worker::new(self.device, wiring.memory(), vectors.clone());
        let mut worker = worker.map_err(impossible)?;
        worker.pause(true);

        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        let doorbells = (0..layout.queues()).map(|_| event()).collect::<Result<Vec<_>, _>>()?;
        let clones = || doorbells.iter().map(EventFd::try_clone).collect::<Result<Vec<_>, _>>();
        let bells = clones()?.into_iter().map(Arc::new).collect();
        worker.connect(clones()?);

        let worker = Arc::new(Mutex::new(worker));
        let setup = Setup::new(Arc::clone(&worker), doorbells);
        let function = Arc::new(Function::new((identity, layout), setup, vectors, bells));
        wiring.pci(function.clone())?;
        wiring.poll(worker.clone());
        wiring.persist(Arc::new(Mutex::new(Saved(function))));
        Ok(Handle::new(worker))
    }
}
