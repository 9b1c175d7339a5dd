//! Several commands at a time, each line of their output with the name of the one that wrote it.
#![expect(clippy::print_stdout, reason = "the commands' output is the user's")]

use std::{
    io::{self, BufRead, BufReader},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use crate::error::{Context, Result};

/// Calls `work` for every item, in their order, `lanes` at a time: what it returned, in their order.
///
/// Every item has its turn, also after one has failed.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    lanes: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(items.iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || std::iter::from_fn(next).map(|(at, item)| (at, work(item))).collect::<Vec<_>>();
    let mut results = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes.max(1)).map(|_| scope.spawn(lane)).collect();
        let done = lanes.into_iter().map(|lane| match lane.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.flatten().collect::<Vec<_>>()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Runs `command`, without input, to its end; what it writes is written with `name` before each line.
pub(super) fn labelled(name: &str, mut command: Command) -> Result<ExitStatus> {
    let (reader, writer) = io::pipe().context(|| "cannot make a pipe".to_owned())?;
    let errors = writer.try_clone().context(|| "cannot make a pipe".to_owned())?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().context(|| format!("cannot run {program}"))?;
    // With it go our own ends of the pipe: it ends with the last process that writes.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context(|| format!("cannot read what {program} says"))?;
        println!("{name}: {}", String::from_utf8_lossy(&line));
    }
    child.wait().context(|| format!("cannot wait for {program}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_their_items() {
        // The first can end only once the second has begun.
        let both = Barrier::new(2);
        let results = each(&[1, 2, 3], 2, |item| {
            if *item < 3 {
                both.wait();
            }
            item * 10
        });
        assert_eq!(results, [10, 20, 30]);
    }

    #[test]
    fn one_lane_is_one_at_a_time() {
        let busy = Mutex::new(());
        let alone = each(&[(); 4], 1, |()| busy.try_lock().is_ok());
        assert_eq!(alone, [true; 4]);
    }

    #[test]
    fn a_command_s_status_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b >&2; exit 3"]);
        assert_eq!(labelled("test", command).unwrap().code(), Some(3));
        assert!(labelled("test", Command::new("/nonexistent/x")).is_err());
    }
}
