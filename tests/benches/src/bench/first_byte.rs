//! From exec to the first byte of the smallest guest, in proportion to a program that makes the same
//! machine by nothing but ioctls.

use std::{path::Path, process::Command};

use floor::guest::{BYTE, tiny_elf};

use super::{FLOOR, PURLIN, PURLIN_TO_FLOOR};
use crate::{
    error::Result,
    options::Options,
    process::{Launch, Running},
    report::Case,
    rounds::interleave,
    scratch::Scratch,
};

const LIMIT: f64 = 1.5;

pub(super) fn run(options: &Options) -> Result<Vec<Case>> {
    let scratch = Scratch::new("first-byte")?;
    let tiny = Tiny::new(options, &scratch)?;
    let mut ran = [Vec::new(), Vec::new()];
    let samples = interleave(options.samples(), 2, &mut |subject| {
        let (took, running) = if subject == 0 { tiny.purlin() } else { tiny.floor() }?;
        let busy = running.cpu_time()? * 1e3;
        ran.iter_mut().skip(subject).take(1).for_each(|of| of.push(busy));
        Ok(took * 1e3)
    })?;
    let [purlin, floor] = samples.as_slice() else { return Err("not two subjects".into()) };
    let wall = Case::new("exec to first byte", "ms").row(PURLIN, purlin).row(FLOOR, floor);
    let [purlin_ran, floor_ran] = &ran;
    // Not what is required, but what to look at when the machine is busy.
    let busy = Case::new("time on a CPU until then", "ms");
    Ok(vec![
        wall.ratio(PURLIN_TO_FLOOR, purlin, floor, LIMIT),
        busy.row(PURLIN, purlin_ran).row(FLOOR, floor_ran),
    ])
}

/// The tiny guest, ready to be run by either side.
pub(super) struct Tiny<'a> {
    purlin: Box<Path>,
    floor: Box<Path>,
    kernel: Box<Path>,
    scratch: &'a Scratch,
}

impl<'a> Tiny<'a> {
    pub(super) fn new(options: &Options, scratch: &'a Scratch) -> Result<Self> {
        Ok(Self {
            purlin: options.purlin()?.into(),
            floor: options.floor()?.into(),
            kernel: scratch.file("tiny.elf", &tiny_elf())?.into(),
            scratch,
        })
    }

    /// Runs it on Purlin up to its byte: seconds, and the machine, which sleeps.
    pub(super) fn purlin(&self) -> Result<(f64, Running)> {
        let mut command = Command::new(&*self.purlin);
        command.arg("run").arg("--kernel").arg(&*self.kernel).args(["--memory", "128M"]);
        self.launch(command)
    }

    /// Runs it on raw ioctls up to its byte.
    pub(super) fn floor(&self) -> Result<(f64, Running)> {
        self.launch(Command::new(&*self.floor))
    }

    fn launch(&self, command: Command) -> Result<(f64, Running)> {
        Launch { command, marker: &[BYTE], scratch: self.scratch }.time()
    }
}
