//! Machines that run in this process, which changes them meanwhile.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hypervisor::kvm::Kvm;
use legacy::Backend;
use vcpu::{Stop, Vcpus};
use vmm::{
    config::{Config, Serial, Target},
    machine::{Consoles, Machine},
};

use crate::{BOOT, Guest};

/// The machine of `guest`, whose console is the file `console`.
pub(crate) fn config(guest: &Guest, console: &Path) -> Config {
    let kernel = guest.directory.join(guest.flavour).join(guest.image);
    let com1 = Target::File { path: console.to_owned(), append: false };
    Config {
        initrd: Some(kernel.with_file_name("test.cpio")),
        kernel,
        cmdline: guest.cmdline.clone(),
        serial: Serial { com1, ..Serial::default() },
        ..Config::default()
    }
}

/// The machine that `config` describes, about to run.
pub(crate) fn machine(config: &Config) -> Machine {
    let consoles = Consoles::open(config, Backend::new(std::io::sink())).unwrap();
    Machine::new(&Kvm::open().unwrap(), config, &consoles).unwrap()
}

/// Runs `machine` until its guest powers off, while `work` is done: its result, and what the guest
/// printed to the file `console`.
pub(crate) fn run<T>(
    machine: Machine,
    console: &Path,
    work: impl FnOnce(&Vcpus) -> Result<T, String>,
) -> (T, String) {
    let (stop, done) = machine
        .run(|cpus| {
            let done = work(cpus);
            if done.is_err() {
                cpus.request_stop();
            }
            done
        })
        .unwrap();
    let output = fs::read_to_string(console).unwrap();
    let done = done.unwrap();
    assert_eq!(stop, Stop::PowerOff, "{output}");
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    (done, output)
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
