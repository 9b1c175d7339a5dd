//! The demo on the real /dev/kvm, whatever kind that is.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says what is wrong"
)]

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use hypervisor::kvm::{DEVICE, Kvm};
use purlin_vmm::demo::{self, Report};

/// Whether there is a KVM. A machine that says it has one must not skip.
#[expect(clippy::disallowed_methods, reason = "the environment says what a test may skip")]
fn has_kvm() -> bool {
    let found = Path::new(DEVICE).exists();
    if !found {
        assert!(std::env::var_os("REQUIRE_KVM").is_none(), "REQUIRE_KVM is set without {DEVICE}");
        println!("SKIPPED the_demo_shows_both_sides: there is no {DEVICE}");
    }
    found
}

#[test]
fn the_demo_shows_both_sides() {
    if !has_kvm() {
        return;
    }
    let report = demo::run(&Kvm::open().unwrap()).unwrap();
    println!("{report}");
    the_guest_worked(&report.console);
    the_monitor_saw_it(&report);
    assert!(report.to_string().contains("    guest| timer    10 interrupts, 10 ms apart\n"));
}

fn the_guest_worked(console: &str) {
    let lines: Vec<&str> = console.lines().collect();
    let [hello, cpu, primes, memory, timer, counter, clock, power] = lines[..] else {
        panic!("the guest printed {console:?}");
    };
    assert_eq!(hello, "hello from a guest in 16-bit real mode");
    assert!(cpu.starts_with("cpu      ") && cpu.len() >= "cpu      GenuineIntel".len(), "{cpu:?}");
    assert_eq!(primes, "primes   25 below 100, their sum is 1060");
    assert_eq!(memory, "memory   128 of 128 pages hold what was written to them");
    assert_eq!(timer, "timer    10 interrupts, 10 ms apart");
    assert_eq!(counter, "counter  1 + 2 + ... + 10 = 55, says the device at 0xd0000");
    let clock = clock.strip_prefix("clock    ").and_then(|clock| clock.strip_suffix(" UTC"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let off = now.abs_diff(seconds(clock.unwrap()));
    assert!(off < 60, "the guest's clock is {off} s off");
    assert_eq!(power, "power    off");
}

fn the_monitor_saw_it(report: &Report) {
    let count = |kind: trace::Kind, touched: &str| {
        let mut exits = report.exits.iter();
        let exits =
            exits.find(|exits| exits.row.kind == kind && exits.touched.starts_with(touched));
        exits.map_or(0, |exits| exits.row.count)
    };
    let bytes = report.console.len() + report.console.lines().count(); // CR LF
    assert_eq!(count(trace::Kind::PioOut, "serial port, data"), bytes);
    assert!(count(trace::Kind::PioIn, "serial port, line status") >= bytes);
    assert_eq!(count(trace::Kind::MmioWrite, "counter"), 10);
    assert_eq!(count(trace::Kind::MmioRead, "counter"), 1);
    assert_eq!(count(trace::Kind::PioOut, "ACPI power"), 1);
    let longest = report.stays.unwrap().max;
    assert!(longest > 50_000_000, "ten ticks at 100 Hz took {longest} ns");
}

/// Seconds since 1970 of `YYYY-MM-DD hh:mm:ss`.
fn seconds(time: &str) -> u64 {
    let parts: Vec<u64> = time.split(['-', ' ', ':']).map(|part| part.parse().unwrap()).collect();
    let [year, month, day, hour, minute, second] = parts[..] else { panic!("{time:?} is no time") };
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    (days - 719_469) * 86_400 + hour * 3_600 + minute * 60 + second
}
