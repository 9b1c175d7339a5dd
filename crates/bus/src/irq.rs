//! A device's end of an interrupt line.

use std::{fmt, io, sync::Arc};

use vmm_sys_util::eventfd::EventFd;

/// One edge-triggered interrupt line, as its device holds it.
///
/// A device knows neither its number nor the controller behind it. Clones raise the same line, from
/// any thread.
#[derive(Clone)]
pub struct IrqLine(Target);

#[derive(Clone)]
enum Target {
    Null,
    Event(Arc<EventFd>),
    Function(Arc<dyn Fn() -> io::Result<()> + Send + Sync>),
}

impl IrqLine {
    /// A line that leads nowhere.
    pub fn null() -> Self {
        Self(Target::Null)
    }

    /// A line that signals `event`, which a hypervisor turns into an interrupt (irqfd).
    pub fn from_event(event: EventFd) -> Self {
        Self(Target::Event(Arc::new(event)))
    }

    /// A line that calls `raise`, for hypervisors without irqfd and for tests that count.
    pub fn from_fn(raise: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Target::Function(Arc::new(raise)))
    }

    /// Raises the line once. Never blocks for long: an eventfd write or a short call.
    ///
    /// # Errors
    /// The host refused the event; the interrupt is lost.
    pub fn raise(&self) -> io::Result<()> {
        match &self.0 {
            Target::Null => Ok(()),
            Target::Event(event) => event.write(1),
            Target::Function(raise) => raise(),
        }
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Target::Null => "IrqLine(null)",
            Target::Event(_) => "IrqLine(event)",
            Target::Function(_) => "IrqLine(function)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn raising_an_event_line_signals_the_event() {
        let event = EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap();
        let line = IrqLine::from_event(event.try_clone().unwrap());
        line.raise().unwrap();
        line.clone().raise().unwrap();
        assert_eq!(event.read().unwrap(), 2);
    }

    #[test]
    fn raising_a_function_line_calls_it() {
        let count = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&count);
        let line = IrqLine::from_fn(move || {
            seen.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        line.raise().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
