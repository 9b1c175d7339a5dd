//! What a request costs our own code: instructions, counted by callgrind, which does not notice what
//! else the machine does, and allocations. No KVM is needed.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use super::PURLIN;
use crate::{error::Result, report::Case};

const CASES: [&str; 4] = ["blk-read", "blk-write", "net-transmit", "net-receive"];
/// Batches of two runs, whose difference has no start in it, and the requests of a batch.
const FEW: u32 = 16;
const MANY: u32 = 80;
const BATCH: u32 = 64;
/// How much more than what was written down is no reason to worry: other processors take other paths
/// in the C library.
const TOLERANCE: f64 = 1.05;
/// What was written down, by case.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");

pub(super) fn run() -> Result<Vec<Case>> {
    let program = std::env::current_exe()?.with_file_name("requests");
    let recorded: BTreeMap<String, f64> = serde_json::from_str(&fs::read_to_string(RECORDED)?)?;
    CASES.into_iter().map(|name| case(name, &program, &recorded)).collect()
}

fn case(name: &str, program: &Path, recorded: &BTreeMap<String, f64>) -> Result<Case> {
    let (few, many) = (counted(program, name, FEW)?, counted(program, name, MANY)?);
    let requests = f64::from((MANY - FEW) * BATCH);
    let each = (many - few) / requests;
    let limit = recorded.get(name).ok_or_else(|| format!("{RECORDED} has no figure for {name}"))?;
    let case = Case::new(name, "instructions a request").row(PURLIN, &[each]);
    let case = case.at_most("instructions a request", each, limit * TOLERANCE);
    Ok(case.at_most("allocations a request", allocated(program, name)? / requests, 0.0))
}

/// Instructions of the whole program.
fn counted(program: &Path, case: &str, batches: u32) -> Result<f64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = valgrind.args([case, &batches.to_string()]).output();
    let output = output.map_err(|error| format!("cannot run valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind failed with {}: {}", output.status, said.trim()).into());
    }
    collected(&said).ok_or_else(|| format!("callgrind says no number: {}", said.trim()).into())
}

/// The number in callgrind's last words.
fn collected(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.split_once("Collected : "))?;
    line.1.trim().parse().ok()
}

/// Allocations of the batches between the two runs.
fn allocated(program: &Path, case: &str) -> Result<f64> {
    let output = Command::new(program).args([case, &(MANY - FEW).to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().map_err(|_| format!("{case} says {said:?}, not a number").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_from_callgrind_s_last_words() {
        let said = "==7== Events    : Ir\n==7== Collected : 1234567\n==7==\n";
        assert_eq!(collected(said), Some(1_234_567.0));
        assert_eq!(collected("==7== Events    : Ir\n"), None);
    }

    #[test]
    fn every_case_has_a_figure_that_was_written_down() {
        let recorded: BTreeMap<String, f64> =
            serde_json::from_str(&fs::read_to_string(RECORDED).unwrap()).unwrap();
        assert!(CASES.iter().all(|case| recorded.contains_key(*case)));
    }
}
