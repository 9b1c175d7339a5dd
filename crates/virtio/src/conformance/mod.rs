//! What every virtio device must do, as test bodies that a device's own tests call: [`device()`] with
//! a constructor, and [`serves`] with a request that the device understands.
//!
//! A body panics with a message that says what is wrong. The device is attached to a
//! [`FakeWiring`](device::FakeWiring) and driven by a [`Driver`] of its own: no hypervisor, no
//! privileges, no threads, nothing that a guest could not do.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test body reports by panicking"
)]

mod bar;
mod driver;
mod fuzz;
mod host;
mod hostile;
mod intx;
mod machine;
mod msix;
mod notification;
mod probe;
mod protocol;
mod queue;
mod register;
mod requests;
mod window;

pub use bar::{follows_its_bar, keeps_its_widths, obeys_its_command_register};
pub use driver::Driver;
pub use fuzz::fuzz;
pub use hostile::{breaks_with_its_rings, returns_malformed_chains, takes_any_request};
pub use intx::{interrupts_by_its_pin, restores_its_pin, shares_its_line};
pub use msix::{chooses_vectors, holds_masked_vectors};
pub use notification::{is_notified_by_event_index, is_notified_by_flag};
pub use protocol::{
    announces_itself, comes_back_from_a_snapshot, follows_the_status, keeps_its_config,
    refuses_impossible_queues, takes_every_access,
};
pub use queue::{BUFFERS, Descriptor, INDIRECT, NEXT, Queue, WRITE};
pub use register::{Half, Register};
pub use requests::{Request, serves};
pub use window::answers_through_its_window;

use device::Attach;

use crate::{Device, Handle, MmioTransport, PciTransport, mmio, pci};

/// Every body that needs no request, on every transport. `make` makes the device anew, always the
/// same.
pub fn device<D: Device>(make: impl Fn() -> D) {
    device_on(&|| mmio(make()));
    device_on(&|| pci(make()));
    pci_device(&|| pci(make()));
    for seed in 1..=SEEDS {
        fuzz::at_random(&make, &mut Random(seed));
    }
}

/// Every body that needs no request, on one transport.
fn device_on<T: Transport>(make: &impl Fn() -> T) {
    announces_itself(make);
    follows_the_status(make);
    keeps_its_config(make);
    refuses_impossible_queues(make);
    returns_malformed_chains(make);
    breaks_with_its_rings(make);
    is_notified_by_flag(make);
    is_notified_by_event_index(make);
    comes_back_from_a_snapshot(make);
    for seed in 1..=SEEDS {
        takes_any_request(make, seed);
    }
    takes_every_access(make);
}

/// Every body that is about PCI.
fn pci_device<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    follows_its_bar(make);
    obeys_its_command_register(make);
    holds_masked_vectors(make);
    chooses_vectors(make);
    interrupts_by_its_pin(make);
    shares_its_line(make);
    restores_its_pin(make);
    answers_through_its_window(make);
    keeps_its_widths(make);
}

/// How many runs of random requests a device must come through.
const SEEDS: u64 = 16;

/// A device on its transport, before it is attached.
pub trait Transport: Attach<Handle = Handle<Self::Device>> {
    /// The device.
    type Device: Device;

    /// The device, not attached.
    fn into_device(self) -> Self::Device;
}

impl<D: Device> Transport for MmioTransport<D> {
    type Device = D;

    fn into_device(self) -> D {
        self.into_device()
    }
}

impl<D: Device> Transport for PciTransport<D> {
    type Device = D;

    fn into_device(self) -> D {
        self.into_device()
    }
}

/// Marsaglia's xorshift: repeatable, and good enough to choose requests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end.max(1))).unwrap_or(0)
    }
}
