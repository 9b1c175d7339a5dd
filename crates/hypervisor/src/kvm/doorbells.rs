//! Doorbells: `KVM_IOEVENTFD`.

use arch::IoAddr;
use kvm_ioctls::{Error, IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::{machine::Machine, os};
use crate::{Doorbells, WireError};

/// What is done with an event.
#[derive(Clone, Copy)]
enum Step {
    Assign,
    Deassign,
}

impl Doorbells for Machine {
    fn listen(&self, at: IoAddr, value: Option<u32>, event: &EventFd) -> Result<(), WireError> {
        place(&self.fd, Step::Assign, (at, value), event).map_err(|error| refused("an", at, error))
    }

    fn unlisten(&self, at: IoAddr, value: Option<u32>, event: &EventFd) -> Result<(), WireError> {
        place(&self.fd, Step::Deassign, (at, value), event)
            .map_err(|error| refused("to give up the", at, error))
    }
}

fn refused(what: &str, at: IoAddr, error: Error) -> WireError {
    let what = match at {
        IoAddr::Pio(port) => format!("{what} event for port {port:#x}"),
        IoAddr::Mmio(addr) => format!("{what} event for address {addr:#x}"),
    };
    WireError::Host { what, source: os(error) }
}

/// A value is as wide as its type: two bytes for a port, four in memory.
fn place(
    fd: &VmFd,
    step: Step,
    (at, value): (IoAddr, Option<u32>),
    event: &EventFd,
) -> Result<(), Error> {
    let address = match at {
        IoAddr::Pio(port) => IoEventAddress::Pio(port.into()),
        IoAddr::Mmio(addr) => IoEventAddress::Mmio(addr),
    };
    match (at, value) {
        (_, None) => apply(fd, step, &address, event, NoDatamatch),
        (IoAddr::Mmio(_), Some(value)) => apply(fd, step, &address, event, value),
        (IoAddr::Pio(_), Some(value)) => {
            let value = u16::try_from(value).map_err(|_| Error::new(libc::EINVAL))?;
            apply(fd, step, &address, event, value)
        }
    }
}

fn apply(
    fd: &VmFd,
    step: Step,
    address: &IoEventAddress,
    event: &EventFd,
    value: impl Into<u64>,
) -> Result<(), Error> {
    match step {
        Step::Assign => fd.register_ioevent(event, address, value),
        Step::Deassign => fd.unregister_ioevent(event, address, value),
    }
}
