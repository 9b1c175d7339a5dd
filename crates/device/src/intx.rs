//! The interrupt pin of a function on the PCI bus.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

/// What a function interrupts for by its INTx pin (PCI 3.0 §2.2.6): causes, a bit each, whose meaning
/// is the function's own. The bus asserts the pin as long as there is a cause and the guest lets it,
/// which is never while MSI-X is on.
///
/// The function keeps it, gives a clone to the bus ([`PciFunction::intx`]), and saves the causes itself.
/// Any thread may use it; what the bus does for it takes no lock but that of the interrupt line.
///
/// [`PciFunction::intx`]: crate::PciFunction::intx
#[derive(Clone, Default)]
pub struct Intx(Arc<State>);

#[derive(Default)]
struct State {
    causes: AtomicU32,
    bus: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Intx {
    /// A pin without a cause.
    pub fn new() -> Self {
        Self::default()
    }

    /// The causes that there are.
    pub fn causes(&self) -> u32 {
        self.0.causes.load(SeqCst)
    }

    /// Adds `causes`. To add one to others is as cheap as an atomic operation.
    pub fn raise(&self, causes: u32) {
        if self.0.causes.fetch_or(causes, SeqCst) == 0 && causes != 0 {
            self.changed();
        }
    }

    /// Takes all causes away, and says which there were.
    pub fn take(&self) -> u32 {
        let causes = self.0.causes.swap(0, SeqCst);
        if causes != 0 {
            self.changed();
        }
        causes
    }

    /// Replaces all causes, by saved ones.
    pub fn restore(&self, causes: u32) {
        self.0.causes.store(causes, SeqCst);
        self.changed();
    }

    /// Has `changed` called whenever there is a first cause, or no longer one. The bus does it, once;
    /// any further call is in vain.
    ///
    /// `changed` may come late, when [`causes`](Self::causes) are others again, and from several
    /// threads at once.
    pub fn watch(&self, changed: impl Fn() + Send + Sync + 'static) {
        drop(self.0.bus.set(Box::new(changed)));
    }

    fn changed(&self) {
        if let Some(changed) = self.0.bus.get() {
            changed();
        }
    }
}

impl fmt::Debug for Intx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Intx({:#x})", self.causes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> (Intx, Arc<AtomicU32>) {
        let (intx, changes) = (Intx::new(), Arc::new(AtomicU32::new(0)));
        let seen = Arc::clone(&changes);
        intx.watch(move || {
            seen.fetch_add(1, SeqCst);
        });
        (intx, changes)
    }

    #[test]
    fn the_bus_is_told_of_the_first_cause_and_when_none_is_left() {
        let (intx, changes) = watched();
        intx.raise(0);
        assert_eq!((intx.take(), changes.load(SeqCst)), (0, 0));
        intx.raise(1);
        intx.raise(1);
        intx.raise(2);
        assert_eq!((intx.causes(), changes.load(SeqCst)), (3, 1));
        assert_eq!((intx.take(), intx.causes(), changes.load(SeqCst)), (3, 0, 2));
    }

    #[test]
    fn restored_causes_replace_those_that_there_are() {
        let (intx, changes) = watched();
        intx.raise(1);
        intx.restore(2);
        assert_eq!((intx.causes(), changes.load(SeqCst)), (2, 2));
    }

    #[test]
    fn clones_are_the_same_pin() {
        let (intx, changes) = watched();
        intx.clone().raise(4);
        assert_eq!((intx.causes(), changes.load(SeqCst)), (4, 1));
    }
}
