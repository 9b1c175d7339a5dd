//! Devices that come to a running guest on PCI, and go again. The machine runs in this process, which
//! plugs meanwhile; the guest never looks for devices by hand.

use std::{path::Path, thread, time::Duration};

use board::Hotplug;
use disk::Memory as MemoryDisk;
use harness::Scratch;
use vcpu::Vcpus;
use virtio_blk::{Blk, BlkConfig};
use virtio_rng::Rng;
use vmm::config::{Bus, Config};

use crate::{
    Guest,
    inside::{config, machine, printed, run},
    value,
};

/// How often a device comes and goes.
const ROUNDS: u32 = 3;
/// Sectors of the disk that comes.
const SECTORS: u64 = 2048;

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

/// Has devices come and go in a guest with `cmdline` besides.
fn come_and_go(test: &str, cmdline: &str) {
    let Some(guest) = Guest::new(test, "hotplug") else { return };
    let guest = guest.cmdline(cmdline);
    let scratch = Scratch::new(test);
    let console = scratch.path("console");
    let config = Config { bus: Bus::Pci, ..config(&guest, &console) };
    let machine = machine(&config);
    let hotplug = machine.hotplug().unwrap();
    let ((), output) = run(machine, &console, |cpus| plug(cpus, &hotplug, &console));

    for round in 1..=ROUNDS {
        let came = format!("PURLIN-CAME {round} ");
        assert_eq!(value(&output, &came), Some("sectors=2048 data=hot"), "{output}");
    }
    assert_eq!(value(&output, "PURLIN-RNG "), Some("rrrrrrrr"), "{output}");
}

#[test]
fn a_stock_kernel_follows_devices_that_come_and_go() {
    come_and_go("a_stock_kernel_follows_devices_that_come_and_go", "");
}

#[test]
fn a_stock_kernel_without_msi_follows_devices_that_come_and_go() {
    come_and_go("a_stock_kernel_without_msi_follows_devices_that_come_and_go", "pci=nomsi");
}
