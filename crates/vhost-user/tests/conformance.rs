//! What every virtio device must do, as far as the front end does it.
//!
//! The other bodies of the suite ask how chains are served, and expect it done by the I/O thread of the
//! test; here another process does it, in its own time and with its own faults: malformed chains,
//! broken rings, suppression of notifications, random requests, and requests
//! through windows, while a BAR moves, a vector is masked or bus mastering is off. `serving.rs` has what is in their place.
#![expect(clippy::unwrap_used, reason = "test code")]

mod backend;

use std::cell::RefCell;

use backend::{Backend, Options, Scratch};
use purlin_vhost_user::{Settings, VhostUser};
use virtio::{
    conformance::{
        Transport, announces_itself, follows_the_status, keeps_its_config, keeps_its_widths,
        refuses_impossible_queues, takes_every_access,
    },
    mmio, pci,
};

/// Makes devices, each with a back end of its own.
struct Makers {
    scratch: Scratch,
    backends: RefCell<Vec<Backend>>,
    settings: Settings,
}

impl Makers {
    fn new(settings: Settings) -> Self {
        Self { scratch: Scratch::new(), backends: RefCell::default(), settings }
    }

    fn make<const ID: u32>(&self) -> VhostUser<ID> {
        let mut backends = self.backends.borrow_mut();
        let socket = self.scratch.socket(&backends.len().to_string());
        backends.push(Backend::new(&socket, Options::default()));
        VhostUser::connect(socket, self.settings.clone()).unwrap()
    }
}

fn conforms<T: Transport>(make: &impl Fn() -> T) {
    announces_itself(make);
    follows_the_status(make);
    keeps_its_config(make);
    refuses_impossible_queues(make);
    takes_every_access(make);
}

#[test]
fn a_disk_conforms_by_mmio() {
    let makers = Makers::new(Settings::block().queues(2).unwrap());
    conforms(&|| mmio(makers.make::<2>()));
}

#[test]
fn a_disk_conforms_by_pci() {
    let makers = Makers::new(Settings::block());
    let make = || pci(makers.make::<2>());
    conforms(&make);
    keeps_its_widths(&make);
}

#[test]
fn a_file_system_conforms() {
    let makers = Makers::new(Settings::fs("home").unwrap());
    conforms(&|| mmio(makers.make::<26>()));
}

#[test]
fn a_network_card_conforms() {
    let makers = Makers::new(Settings::net([2, 0, 0, 0, 0, 1]));
    conforms(&|| mmio(makers.make::<1>()));
}
