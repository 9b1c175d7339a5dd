//! The PC's keyboard controller, which also resets the machine.

mod controller;
mod keyboard;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use device::{Attach, AttachError, Irq, Node, Range, Wiring};

pub use self::controller::SavedI8042;
use self::controller::{COMMAND, Controller, DATA};
use crate::{line::Line, lock, slice::Slice};

const DATA_PORT: u16 = 0x60;
const COMMAND_PORT: u16 = 0x64;
const IRQ: u32 = 1;

/// An i8042 keyboard controller with a keyboard and without a mouse, at ports 0x60 and 0x64 (0x61
/// between them belongs to the timer) and interrupt line 1.
///
/// Command 0xfe, any other pulse of output port line 0, and clearing that line ask for
/// [`Action::Reset`](device::Action::Reset).
#[derive(Debug, Default)]
pub struct I8042(());

impl I8042 {
    /// A controller as a PC's firmware leaves it: tested, keyboard on and translated to scan code
    /// set 1, interrupt on.
    pub fn new() -> Self {
        Self(())
    }
}

impl Attach for I8042 {
    type Handle = Keys;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<Keys, AttachError> {
        let (gsi, line) = wiring.irq(Irq::Fixed(IRQ))?;
        let controller = Arc::new(Mutex::new(Controller::new(Line::new(line))));
        wiring.pio(Range::new(DATA_PORT, 1)?, Arc::new(Slice::new(&controller, DATA)));
        wiring.pio(Range::new(COMMAND_PORT, 1)?, Arc::new(Slice::new(&controller, COMMAND)));
        wiring.persist(controller.clone());
        wiring.announce(Node::Keyboard { gsi });
        Ok(Keys(controller))
    }
}

/// The host's hands on the keyboard. Clones press the same keys.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Mutex<Controller>>);

impl Keys {
    /// Presses and releases Ctrl, Alt and Delete, which Linux's init takes as a request to reboot.
    ///
    /// Returns `false`, with nothing pressed, when the guest has switched the keyboard off or has
    /// not read what was pressed before.
    pub fn ctrl_alt_del(&self) -> bool {
        lock(&self.0).ctrl_alt_del()
    }
}
