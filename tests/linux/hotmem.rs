//! Memory that a running guest gains and loses, by the driver of a stock kernel. The machine runs in
//! this process, which asks for other sizes meanwhile.

use std::{fs, path::Path};

use harness::Scratch;
use vcpu::Vcpus;
use vmm::{
    config::{Config, Memory, MemoryMax, Part},
    machine::MemorySize,
};

use crate::{
    Guest,
    inside::{config, machine, printed, run},
    number,
};

const MIB: u64 = 1 << 20;

/// The machine of `guest`, which can gain memory.
fn growing(guest: &Guest, console: &Path) -> Config {
    let config = config(guest, console);
    Config {
        // What is to be given back must not hold what cannot be moved.
        cmdline: format!("{} memhp_default_state=online_movable", config.cmdline),
        memory: Memory::default().with("256M,pages=small").unwrap(),
        memory_max: MemoryMax::default().with("768M,requested=512M").unwrap(),
        ..config
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
    let machine = machine(&growing(&guest, &console));
    let size = machine.memory().unwrap();
    let ([filled, shrunk], output) = run(machine, &console, |cpus| resize(cpus, &size, &console));

    assert!(number(&output, "PURLIN-GROWN ") > 650_000, "{output}");
    assert!(number(&output, "PURLIN-SHRUNK ") < 262_144, "{output}");
    // It had filled 200 MiB, first of all with what was plugged in: memory that can be moved.
    assert!(filled > shrunk + 128 * MIB, "{filled} bytes before, {shrunk} after: {output}");
}
