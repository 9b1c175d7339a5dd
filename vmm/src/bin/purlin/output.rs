//! Standard output.

use std::io::{self, Write};

use purlin_vmm::status::ExitStatus;

use crate::{Failure, Outcome};

/// Writes `text` to standard output, and gives `status`. A reader that has read enough, as `head`
/// has, is no failure.
pub(crate) fn print(text: impl AsRef<[u8]>, status: ExitStatus) -> Outcome {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::run(format!("standard output does not take the result: {error}")))
        }
        _ => Ok(status),
    }
}
