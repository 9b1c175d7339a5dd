//! Memory that a running guest gains and loses, by the driver of a stock kernel. The machine runs in
//! this process, which asks for other sizes meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use harness::Scratch;
use hypervisor::kvm::Kvm;
use legacy::Backend;
use vcpu::{Stop, Vcpus};
use vmm::{
    config::{Config, Memory, MemoryMax, Part, Serial, Target},
    machine::{Consoles, Machine, MemorySize},
};

use crate::{BOOT, Guest, number};

const MIB: u64 = 1 << 20;

fn config(guest: &Guest, console: PathBuf) -> Config {
    let kernel = guest.directory.join(guest.flavour).join(guest.image);
    let com1 = Target::File { path: console, append: false };
    Config {
        initrd: Some(kernel.with_file_name("test.cpio")),
        kernel,
        // What is to be given back must not hold what cannot be moved.
        cmdline: format!("{} memhp_default_state=online_movable", guest.cmdline),
        memory: Memory::default().with("256M,pages=small").unwrap(),
        memory_max: MemoryMax::default().with("768M,requested=512M").unwrap(),
        serial: Serial { com1, ..Serial::default() },
        ..Config::default()
    }
}

/// What the guest has printed, as soon as `text` is part of it.
pub(crate) fn printed(cpus: &Vcpus, console: &Path, text: &str) -> Result<String, String> {
    let end = Instant::now() + BOOT;
    loop {
        // The machine may end right after the guest has printed it.
        let stopped = cpus.stopped();
        let seen = fs::read(console).unwrap_or_default();
        let seen = String::from_utf8_lossy(&seen).into_owned();
        if seen.contains(text) {
            return Ok(seen);
        }
        if stopped.is_some() || Instant::now() > end {
            return Err(format!("no {text} before {stopped:?} in: {seen}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// How much memory this process has, without that of files, bytes.
fn own_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes << 10
}

/// Asks the guest for other sizes: how much memory this process had while the guest had filled its
/// own, and after that had been taken away.
fn resize(cpus: &Vcpus, size: &MemorySize, console: &Path) -> Result<[u64; 2], String> {
    printed(cpus, console, "PURLIN-REQUESTED ")?;
    size.request(768 * MIB).map_err(|error| error.to_string())?;
    printed(cpus, console, "PURLIN-FREED")?;
    let filled = own_memory();
    if size.now() != 768 * MIB {
        return Err(format!("the guest has {} bytes of 768 MiB", size.now()));
    }
    size.request(256 * MIB).map_err(|error| error.to_string())?;
    printed(cpus, console, "PURLIN-SHRUNK ")?;
    if size.now() != 256 * MIB {
        return Err(format!("the guest has {} bytes of 256 MiB", size.now()));
    }
    Ok([filled, own_memory()])
}

#[test]
fn a_running_guest_gains_and_loses_memory_and_the_host_gets_it_back() {
    let test = "a_running_guest_gains_and_loses_memory_and_the_host_gets_it_back";
    let Some(guest) = Guest::new(test, "hotmem") else { return };
    let scratch = Scratch::new(test);
    let console = scratch.path("console");
    let config = config(&guest, console.clone());
    let consoles = Consoles::open(&config, Backend::new(std::io::sink())).unwrap();
    let machine = Machine::new(&Kvm::open().unwrap(), &config, &consoles).unwrap();
    let size = machine.memory().unwrap();
    let (stop, resized) = machine
        .run(|cpus| {
            let resized = resize(cpus, &size, &console);
            if resized.is_err() {
                cpus.request_stop();
            }
            resized
        })
        .unwrap();

    let output = fs::read_to_string(&console).unwrap();
    let [filled, shrunk] = resized.unwrap();
    assert_eq!(stop, Stop::PowerOff, "{output}");
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    assert!(number(&output, "PURLIN-GROWN ") > 650_000, "{output}");
    assert!(number(&output, "PURLIN-SHRUNK ") < 262_144, "{output}");
    // It had filled 200 MiB, first of all with what was plugged in: memory that can be moved.
    assert!(filled > shrunk + 128 * MIB, "{filled} bytes before, {shrunk} after: {output}");
}
