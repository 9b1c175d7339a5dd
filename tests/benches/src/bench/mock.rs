//! What our own code costs an exit: run loop, bus, lock and device, answering exits that a script
//! plays. No KVM is needed.

use std::{hint::black_box, time::Instant};

use floor::{
    allocations,
    guest::{ADDRESS, PORT},
};
use hypervisor::{
    Vcpu,
    mock::{Played, Script},
};
use vcpu::step;

use super::{PURLIN, pinned::pinned, purlin::Wired};
use crate::{error::Result, options::Options, report::Case, rounds::interleave};

/// Exits of one sample: fewer than fit between two turns of the scheduler.
const BATCH: u32 = 2_000;
/// Samples for each that the user asked for: they are short.
const MORE: usize = 10;
const NANOSECONDS: f64 = 100.0;
const SCRIPT: &str = "script alone";

pub(super) fn run(options: &Options) -> Result<Vec<Case>> {
    let rounds = options.samples() * MORE;
    pinned(|| played().into_iter().map(|(name, exit)| case(name, exit, rounds)).collect())
}

fn played() -> [(&'static str, Played); 4] {
    [
        ("port out", Played::pio_out(PORT, &[1])),
        ("port in", Played::pio_in(PORT, 1)),
        ("mmio write", Played::mmio_write(ADDRESS, &[1])),
        ("mmio read", Played::MmioRead { addr: ADDRESS, len: 1 }),
    ]
}

fn case(name: &str, exit: Played, rounds: usize) -> Result<Case> {
    let wired = Wired::new()?;
    // Behind a pointer that the compiler cannot see through, as in a machine.
    let mut cpu: Box<dyn Vcpu> = black_box(Box::new(Script::endless([exit])));
    let mut allocated = 0;
    let samples = interleave(rounds, 2, &mut |subject| {
        let (before, begin) = (allocations(), Instant::now());
        for _ in 0..BATCH {
            if subject == 0 {
                black_box(step(cpu.as_mut(), &wired.buses)?);
            } else {
                black_box(cpu.run()?);
            }
        }
        let took = begin.elapsed();
        allocated += allocations() - before;
        Ok(took.as_secs_f64() * 1e9 / f64::from(BATCH))
    })?;
    let [purlin, script] = samples.as_slice() else { return Err("not two subjects".into()) };
    let exits = (rounds as u64 + 1) * u64::from(BATCH);
    if wired.uses() != exits {
        return Err(format!("of {exits} exits {} reached the device", wired.uses()).into());
    }
    let case = Case::new(name, "ns an exit").row(PURLIN, purlin).row(SCRIPT, script);
    let median = case.rows.first().map_or(f64::NAN, |row| row.summary.median);
    Ok(case.at_most("median ns an exit", median, NANOSECONDS).at_most(
        "allocations an exit",
        allocated as f64 / exits as f64,
        0.0,
    ))
}
