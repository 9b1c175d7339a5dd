//! An interrupt line as our devices hold it.

use std::io;

use device::IrqLine;

use crate::tally::Tally;

/// An [`IrqLine`] whose failures are counted and logged at a limited rate: a device has nobody to
/// report them to, and a guest can ask for interrupts without end.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    line: IrqLine,
    failed: Tally,
}

impl Line {
    pub(crate) fn new(line: IrqLine) -> Self {
        Self { line, failed: Tally::default() }
    }

    /// Raises the line once.
    pub(crate) fn raise(&self) {
        if let Err(error) = self.line.raise()
            && let Some(count) = self.failed.add(1)
        {
            log::warn!("an interrupt is lost ({count} so far): {error}");
        }
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new(IrqLine::null())
    }
}

impl vm_superio::Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.raise();
        Ok(())
    }
}
