//! Work on one CPU, so that no sample pays for a move to another.

use std::thread;

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::error::Result;

/// Does `work` on a thread of its own that stays on one CPU, the last that this process may use.
pub(super) fn pinned<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin()?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err("the measuring thread panicked".into()))
    })
}

fn pin() -> Result<()> {
    let this = Pid::from_raw(0);
    let may = sched_getaffinity(this)?;
    let mut cpus = (0..CpuSet::count()).rev();
    let last =
        cpus.find(|cpu| may.is_set(*cpu) == Ok(true)).ok_or("this process may use no CPU")?;
    let mut only = CpuSet::new();
    only.set(last)?;
    Ok(sched_setaffinity(this, &only)?)
}
