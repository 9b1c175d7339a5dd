//! What a machine with one processor and 128 MiB takes beside its RAM: memory, threads, and the size
//! of the program.

use std::fs;

use floor::guest::TINY_RAM;

use super::{FLOOR, PURLIN, first_byte::Tiny};
use crate::{
    error::Result, options::Options, process::Running, report::Case, rounds::interleave,
    scratch::Scratch,
};

const KIB: f64 = 1024.0;
/// Memory beyond guest RAM, KiB.
const MEMORY: f64 = 2.0 * KIB;
/// Size of the program, KiB.
const SIZE: f64 = 4.0 * KIB;
/// The one vCPU's, and one or two more.
const THREADS: f64 = 3.0;

pub(super) fn run(options: &Options) -> Result<Vec<Case>> {
    let scratch = Scratch::new("footprint")?;
    let tiny = Tiny::new(options, &scratch)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let samples = interleave(options.samples(), 2, &mut |subject| {
        let (_, running) = if subject == 0 { tiny.purlin() } else { tiny.floor() }?;
        let threads = if subject == 0 { &mut ours } else { &mut theirs };
        threads.push(thread_count(&running)?);
        beyond_ram(&smaps(running.id())?)
    })?;
    let [purlin, floor] = samples.as_slice() else { return Err("not two subjects".into()) };
    let memory = Case::new("PSS beyond guest RAM", "KiB").row(PURLIN, purlin).row(FLOOR, floor);
    let median = memory.rows.first().map_or(f64::NAN, |row| row.summary.median);
    // The floor has one thread of its own; what KVM puts beside it in the kernel, it puts beside ours.
    let most = max(&ours) - (max(&theirs) - 1.0);
    let size = fs::metadata(options.purlin()?)?.len() as f64 / KIB;
    Ok(vec![
        memory.at_most("median KiB", median, MEMORY),
        Case::new("threads, of 1 vCPU", "threads").row(PURLIN, &ours).row(FLOOR, &theirs).at_most(
            "most threads, without KVM's own",
            most,
            THREADS,
        ),
        Case::new("size of the program", "KiB").row(PURLIN, &[size]).at_most("KiB", size, SIZE),
    ])
}

fn smaps(process: u32) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/{process}/smaps"))?)
}

/// The proportional set size of everything but guest RAM, KiB. A mapping of exactly the guest's size
/// is its RAM; one that merely contains it would spoil the figure, so that is an error.
fn beyond_ram(smaps: &str) -> Result<f64> {
    let ram = TINY_RAM as u64 / 1024;
    // glibc reserves 128 MiB for a moment when a thread makes its arena; nothing of it is resident.
    let mut mappings = mappings(smaps);
    mappings.retain(|mapping| mapping.pss > 0);
    if mappings.iter().filter(|mapping| mapping.size == ram).count() != 1 {
        return Err(format!("not one mapping of {ram} KiB, the guest's RAM, was found").into());
    }
    let beyond: u64 = mappings.iter().filter(|one| one.size != ram).map(|one| one.pss).sum();
    Ok(beyond as f64)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Mapping {
    size: u64,
    pss: u64,
}

/// The mappings of a process, both figures in KiB.
fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let kib = value.trim().strip_suffix(" kB").and_then(|number| number.parse().ok());
        match (key, kib) {
            ("Size", Some(size)) => mappings.push(Mapping { size, pss: 0 }),
            ("Pss", Some(pss)) => mappings.iter_mut().rev().take(1).for_each(|one| one.pss = pss),
            _ => {}
        }
    }
    mappings
}

fn max(counts: &[f64]) -> f64 {
    counts.iter().copied().fold(0.0, f64::max)
}

fn thread_count(running: &Running) -> Result<f64> {
    Ok(fs::read_dir(format!("/proc/{}/task", running.id()))?.count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f0000000000-7f0008000000 rw-p 00000000 00:00 0
Size:             131072 kB
KernelPageSize:        4 kB
Pss:                 700 kB
Pss_Dirty:           700 kB
7f0008000000-7f0008021000 r-xp 00000000 08:01 7 /bin/a: b
Size:                132 kB
Pss:                  17 kB
";

    #[test]
    fn size_and_share_of_each_mapping_are_read() {
        let expected = [Mapping { size: 131_072, pss: 700 }, Mapping { size: 132, pss: 17 }];
        assert_eq!(mappings(SMAPS), expected);
    }

    #[test]
    fn guest_ram_does_not_count() {
        assert_eq!(beyond_ram(SMAPS).unwrap(), 17.0);
    }

    #[test]
    fn without_a_mapping_that_is_guest_ram_there_is_no_figure() {
        assert!(beyond_ram("Size: 131076 kB\nPss: 4 kB\n").is_err());
    }

    #[test]
    fn this_process_has_mappings_that_take_memory() {
        let own = mappings(&smaps(std::process::id()).unwrap());
        assert!(own.iter().map(|mapping| mapping.pss).sum::<u64>() > 0);
    }
}
