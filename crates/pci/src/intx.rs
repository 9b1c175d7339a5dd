//! INTx: the pins of functions, and the level-triggered lines that they share (PCI 3.0 §2.2.6).

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use arch::IntxLines;
use device::Intx;

use crate::{Host, lock, tally::Tally};

/// The lines of the bus; none if the host has none.
pub(crate) struct Lines {
    pub(crate) wiring: Option<IntxLines>,
    lines: Vec<Arc<Line>>,
}

impl Lines {
    pub(crate) fn new(host: &Arc<dyn Host>) -> Self {
        let wiring = host.intx();
        let mut gsis = wiring.map_or_else(Vec::new, |IntxLines(gsis)| gsis.to_vec());
        gsis.sort_unstable();
        gsis.dedup();
        let line = |gsi| Arc::new(Line::new(gsi, Arc::clone(host)));
        Self { wiring, lines: gsis.into_iter().map(line).collect() }
    }

    /// The line of device number `device`.
    pub(crate) fn of(&self, device: u8) -> Option<&Arc<Line>> {
        let gsi = self.wiring?.line(device);
        self.lines.iter().find(|line| line.gsi == gsi)
    }
}

/// One line: asserted as long as a pin is.
pub(crate) struct Line {
    gsi: u32,
    host: Arc<dyn Host>,
    state: Mutex<State>,
    refused: Tally,
}

#[derive(Default)]
struct State {
    /// How many pins are asserted.
    pins: u32,
    /// What the host was last told.
    asserted: bool,
}

impl Line {
    fn new(gsi: u32, host: Arc<dyn Host>) -> Self {
        Self { gsi, host, state: Mutex::default(), refused: Tally::default() }
    }

    /// What the interrupt line register says: the number of the line, or that it has none (PCI 3.0
    /// §6.2.4).
    pub(crate) fn register(&self) -> u8 {
        u8::try_from(self.gsi).unwrap_or(u8::MAX)
    }

    /// Tells the host, if it does not know. What it refuses it is told again at the next occasion.
    fn drive(&self, state: &mut State) {
        let asserted = state.pins > 0;
        if asserted == state.asserted {
            return;
        }
        match self.host.level(self.gsi, asserted) {
            Ok(()) => state.asserted = asserted,
            Err(error) => {
                if let Some(count) = self.refused.add() {
                    let gsi = self.gsi;
                    log::warn!("interrupt line {gsi} keeps its level: {error} (refusal {count})");
                }
            }
        }
    }
}

/// The pin of a function in its slot.
pub(crate) struct Pin {
    intx: Intx,
    line: Arc<Line>,
    /// The guest has MSI-X off.
    used: AtomicBool,
    /// The guest does not disable it, and the function is there.
    enabled: AtomicBool,
    /// Changed under the lock of the line.
    asserted: AtomicBool,
}

impl Pin {
    /// A pin that follows `intx` from now on, as the guest lets it after a reset.
    pub(crate) fn new(intx: Intx, line: &Arc<Line>) -> Arc<Self> {
        let pin = Arc::new(Self {
            intx: intx.clone(),
            line: Arc::clone(line),
            used: AtomicBool::new(true),
            enabled: AtomicBool::new(true),
            asserted: AtomicBool::new(false),
        });
        // The function outlives its slot, where somebody still holds it.
        let weak = Arc::downgrade(&pin);
        intx.watch(move || {
            if let Some(pin) = weak.upgrade() {
                pin.update();
            }
        });
        pin.update();
        pin
    }

    /// Takes what the guest lets it: whether MSI-X leaves it anything to do, and whether the command
    /// register does.
    pub(crate) fn control(&self, used: bool, enabled: bool) {
        let before = (self.used.swap(used, SeqCst), self.enabled.swap(enabled, SeqCst));
        if before != (used, enabled) {
            self.update();
        }
    }

    /// The interrupt status of the status register, which the command register has no say in (PCI 3.0
    /// §6.2.3).
    pub(crate) fn status(&self) -> bool {
        self.used.load(SeqCst) && self.intx.causes() != 0
    }

    /// Brings the line in line with the pin. Whatever changed, its change was before this, and what the
    /// lock orders last sees it.
    fn update(&self) {
        let mut state = lock(&self.line.state);
        let asserted = self.status() && self.enabled.load(SeqCst);
        if self.asserted.swap(asserted, SeqCst) != asserted {
            let pins = if asserted { state.pins.checked_add(1) } else { state.pins.checked_sub(1) };
            state.pins = pins.unwrap_or(state.pins);
        }
        self.line.drive(&mut state);
    }
}

impl Drop for Pin {
    /// A function that the bus did not take, or that is gone.
    fn drop(&mut self) {
        self.control(false, false);
    }
}

#[cfg(test)]
mod tests;
