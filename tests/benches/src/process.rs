//! Programs that are run until they say something.

use std::{
    fs::{self, File},
    io::Read,
    os::fd::AsFd,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    error::{Error, Result},
    scratch::Scratch,
};

/// How long a program may take to say it.
const LIMIT: Duration = Duration::from_secs(60);
/// How much of what it said is shown if it does not.
const SHOWN: usize = 400;

/// A program that runs; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How long its threads have been on a CPU so far, in seconds: of these, unlike of the wall clock,
    /// a busy machine takes nothing away.
    pub(crate) fn cpu_time(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let ran = text.split(' ').next().ok_or("schedstat is empty")?;
            nanoseconds += ran.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program is run for.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The program with its arguments, made afresh for each run.
    pub(crate) command: Command,
    /// What it says on its standard output when it is where we want it.
    pub(crate) marker: &'a [u8],
    /// Where its standard error goes meanwhile.
    pub(crate) scratch: &'a Scratch,
}

impl Launch<'_> {
    /// Runs the program until it says the marker: how long that took, from before the fork, in
    /// seconds, and the program, which runs on.
    pub(crate) fn time(mut self) -> Result<(f64, Running)> {
        let complaints = self.scratch.path().join("stderr");
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&complaints)?);
        let start = Instant::now();
        let child = self.command.spawn().map_err(|error| {
            format!("cannot run {}: {error}", self.command.get_program().display())
        })?;
        let mut running = Running(child);
        let mut out = running.0.stdout.take().ok_or("the program has no standard output")?;
        let mut said = Vec::new();
        while !contains(&said, self.marker) {
            if !hear(&mut out, &mut said, start)? {
                return Err(self.silent(&said, complaints));
            }
        }
        let took = start.elapsed().as_secs_f64();
        // It keeps its output, so that it does not die of writing to nobody.
        running.0.stdout = Some(out);
        Ok((took, running))
    }

    fn silent(&self, said: &[u8], complaints: PathBuf) -> Error {
        let program = self.command.get_program().display();
        let arguments: Vec<_> = self.command.get_args().map(|one| one.to_string_lossy()).collect();
        let (marker, said) = (String::from_utf8_lossy(self.marker), end(said));
        let complaints = end(&fs::read(complaints).unwrap_or_default());
        let arguments = arguments.join(" ");
        format!(
            "`{program} {arguments}` did not say {marker:?} within {LIMIT:?}; \
             it said {said:?} and complained {complaints:?}"
        )
        .into()
    }
}

/// Adds what the program says next; false if it has ended or time is up.
fn hear(out: &mut ChildStdout, said: &mut Vec<u8>, start: Instant) -> Result<bool> {
    let left = LIMIT.saturating_sub(start.elapsed());
    let timeout = PollTimeout::try_from(left)?;
    if poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
        return Ok(false);
    }
    let mut buffer = [0; 4096];
    let count = out.read(&mut buffer)?;
    said.extend_from_slice(buffer.get(..count).unwrap_or_default());
    Ok(count != 0)
}

fn contains(said: &[u8], marker: &[u8]) -> bool {
    said.windows(marker.len().max(1)).any(|window| window == marker)
}

fn end(text: &[u8]) -> String {
    let from = text.len().saturating_sub(SHOWN);
    String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, name: &str) -> Result<(f64, Running)> {
        let scratch = Scratch::new(name)?;
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Launch { command, marker: b"here", scratch: &scratch }.time()
    }

    #[test]
    fn a_marker_among_other_output_is_heard() {
        let (took, running) = shell("echo am; echo I am here; exec cat", "heard").unwrap();
        assert!(took > 0.0);
        assert!(running.cpu_time().unwrap() > 0.0);
    }

    #[test]
    fn a_program_that_ends_without_the_marker_is_quoted() {
        let error = shell("echo good bye; echo because >&2", "quoted").unwrap_err().to_string();
        assert!(error.contains("good bye") && error.contains("because"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let scratch = Scratch::new("named").unwrap();
        let command = Command::new("/nonexistent/program");
        let error = Launch { command, marker: b"here", scratch: &scratch }.time().unwrap_err();
        assert!(error.to_string().contains("/nonexistent/program"));
    }
}
