//! Devices that come to a running guest on PCI, and go again. The machine runs in this process, which
//! plugs meanwhile; the guest never looks for devices by hand.

use std::{fs, path::Path, thread, time::Duration};

use board::Hotplug;
use disk::Memory as MemoryDisk;
use harness::Scratch;
use hypervisor::kvm::Kvm;
use legacy::Backend;
use vcpu::{Stop, Vcpus};
use virtio_blk::{Blk, BlkConfig};
use virtio_rng::Rng;
use vmm::{
    config::{Bus, Config, Serial, Target},
    machine::{Consoles, Machine},
};

use crate::{Guest, hotmem::printed, value};

/// How often a device comes and goes.
const ROUNDS: u32 = 3;
/// Sectors of the disk that comes.
const SECTORS: u64 = 2048;

fn config(guest: &Guest, console: &Path) -> Config {
    let kernel = guest.directory.join(guest.flavour).join(guest.image);
    let com1 = Target::File { path: console.to_owned(), append: false };
    Config {
        initrd: Some(kernel.with_file_name("test.cpio")),
        kernel,
        cmdline: guest.cmdline.clone(),
        serial: Serial { com1, ..Serial::default() },
        bus: Bus::Pci,
        ..Config::default()
    }
}

/// Has a disk come and go as often as the guest expects it, and then a source of random numbers come.
fn plug(cpus: &Vcpus, hotplug: &Hotplug, console: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| error.to_string();
    printed(cpus, console, "PURLIN-READY")?;
    for round in 1..=ROUNDS {
        let disk = MemoryDisk::new(SECTORS).map_err(|error| failed(&error))?;
        let disk = virtio::pci(Blk::new(disk, BlkConfig::default()));
        let _disk = hotplug.attach("disk", disk).map_err(|error| failed(&error))?;
        printed(cpus, console, &format!("PURLIN-CAME {round} "))?;
        hotplug.request_removal("disk").map_err(|error| failed(&error))?;
        printed(cpus, console, &format!("PURLIN-WENT {round}"))?;
        while hotplug.has("disk") && cpus.stopped().is_none() {
            thread::sleep(Duration::from_millis(10));
        }
    }
    let rng = virtio::pci(Rng::new(std::io::repeat(b'r')));
    hotplug.attach("rng", rng).map_err(|error| failed(&error))?;
    printed(cpus, console, "PURLIN-RNG ").map(drop)
}

#[test]
fn a_stock_kernel_follows_devices_that_come_and_go() {
    let test = "a_stock_kernel_follows_devices_that_come_and_go";
    let Some(guest) = Guest::new(test, "hotplug") else { return };
    let scratch = Scratch::new(test);
    let console = scratch.path("console");
    let config = config(&guest, &console);
    let consoles = Consoles::open(&config, Backend::new(std::io::sink())).unwrap();
    let machine = Machine::new(&Kvm::open().unwrap(), &config, &consoles).unwrap();
    let hotplug = machine.hotplug().unwrap();
    let (stop, plugged) = machine
        .run(|cpus| {
            let plugged = plug(cpus, &hotplug, &console);
            if plugged.is_err() {
                cpus.request_stop();
            }
            plugged
        })
        .unwrap();

    plugged.unwrap();
    let output = fs::read_to_string(&console).unwrap();
    assert_eq!(stop, Stop::PowerOff, "{output}");
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    for round in 1..=ROUNDS {
        let came = format!("PURLIN-CAME {round} ");
        assert_eq!(value(&output, &came), Some("sectors=2048 data=hot"), "{output}");
    }
    assert_eq!(value(&output, "PURLIN-RNG "), Some("rrrrrrrr"), "{output}");
}
