//! Every device at once: all of them on PCI, and as many as there are interrupt lines on MMIO.

use std::{fs, path::PathBuf};

use harness::Scratch;

use crate::{
    Guest,
    net::{TAP, has_network, run},
    value,
};

/// What `PURLIN-TYPES` must list: the virtio device types, in order of their numbers.
const ON_MMIO: &str = "1 2 3 4 5 19 26 27";
pub(crate) const ON_PCI: &str = "1 2 2 3 4 5 19 24 26 27";

pub(crate) fn file(scratch: &Scratch, name: &str, mebibytes: usize) -> PathBuf {
    scratch.file(name, &vec![0; mebibytes << 20])
}

/// The devices that fit on MMIO; the disk is the one of programs.
pub(crate) fn eight(guest: Guest, scratch: &Scratch) -> Guest {
    let shared = scratch.path("shared");
    fs::create_dir(&shared).expect("a directory can be made");
    let [pmem, vsock, console] = ["pmem", "vsock", "console"].map(|name| scratch.path(name));
    file(scratch, "pmem", 8);
    let flags = [
        ("--net", "tap=purlin0".to_owned()),
        ("--fs", format!("{},tag=shared", shared.display())),
        ("--pmem", pmem.display().to_string()),
        ("--vsock", vsock.display().to_string()),
        ("--console", format!("file:{},name=port", console.display())),
        ("--rng", "/dev/urandom".to_owned()),
        ("--balloon", "on,statistics=1".to_owned()),
    ];
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    guest.programs().arguments(flags)
}

pub(crate) fn assert_all(output: &str, scratch: &Scratch, types: &str) {
    assert_eq!(value(output, "PURLIN-TYPES "), Some(types), "{output}");
    for ok in ["driver", "net", "fs", "pmem", "vsock", "console", "rng", "balloon", "log"] {
        assert!(output.contains(&format!("PURLIN-OK {ok}")), "{ok}: {output}");
    }
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    let seen = |name| fs::read_to_string(scratch.path(name)).unwrap_or_default();
    assert_eq!(seen("console"), "by the port\n", "{output}");
    assert_eq!(seen("shared/file"), "by the share\n", "{output}");
}

#[test]
fn a_stock_kernel_drives_every_device_at_once_on_pci() {
    let test = "a_stock_kernel_drives_every_device_at_once_on_pci";
    let Some(guest) = Guest::new(test, "all").filter(|_| has_network(test)) else { return };
    let scratch = Scratch::new(test);
    let disk = file(&scratch, "disk", 16).display().to_string();
    let flags = ["--bus", "pci", "--disk", &disk, "--memory-max", "1G", "--io-threads", "3"];
    let guest = guest.arguments(flags);
    let output = run(eight(guest, &scratch), TAP);

    assert_all(&output, &scratch, ON_PCI);
    assert!(output.contains("PURLIN-OK pci"), "{output}");
}

#[test]
fn a_stock_kernel_drives_eight_devices_at_once_on_mmio() {
    let test = "a_stock_kernel_drives_eight_devices_at_once_on_mmio";
    let Some(guest) = Guest::new(test, "all").filter(|_| has_network(test)) else { return };
    let scratch = Scratch::new(test);
    let output = run(eight(guest.arguments(["--bus", "mmio"]), &scratch), TAP);

    assert_all(&output, &scratch, ON_MMIO);
}
