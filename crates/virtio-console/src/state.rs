//! The saved form of a console.

use device::{Persist, RestoreError, SaveError, Versioned};
use serde::{Deserialize, Serialize};

use crate::{
    Console,
    port::{Known, Line, Sent},
};

/// The saved form of [`Console`]. What is at the other end of its ports is not in it: a restored console
/// is made with the same ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleState {
    /// Columns and rows.
    pub(crate) size: Option<(u16, u16)>,
    /// The driver wants to know of ports.
    pub(crate) wanted: bool,
    /// The ports, in their order.
    pub(crate) ports: Vec<PortState>,
}

/// The saved form of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortState {
    /// The guest knows of the port, has set it up, has it open.
    pub(crate) guest: (bool, bool, bool),
    /// The guest is to be told that it is a console, its name, its size.
    pub(crate) tell: (bool, bool, bool),
    /// What the guest was told of somebody being at the other end.
    pub(crate) told_open: bool,
    /// Of the chain at hand: number, length, and how much has gone to the host.
    pub(crate) sent: (u16, u64, u64),
}

impl Versioned for ConsoleState {
    const KIND: &'static str = "virtio.console";
    const VERSION: u32 = 1;
}

impl PortState {
    fn of(line: &Line) -> Self {
        let (known, sent) = (line.known, line.sent);
        Self {
            guest: (known.added, known.ready, known.open),
            tell: (known.tell_console, known.tell_name, known.tell_size),
            told_open: known.told_open,
            sent: (sent.head, sent.of, sent.bytes),
        }
    }

    fn into(self) -> (Known, Sent) {
        let (added, ready, open) = self.guest;
        let (tell_console, tell_name, tell_size) = self.tell;
        let told_open = self.told_open;
        let (head, of, bytes) = self.sent;
        let known = Known { added, ready, open, tell_console, tell_name, tell_size, told_open };
        (known, Sent { head, of, bytes })
    }
}

impl Persist for Console {
    type State = ConsoleState;

    fn save(&mut self) -> Result<ConsoleState, SaveError> {
        let ports = self.lines.iter().map(PortState::of).collect();
        Ok(ConsoleState { size: self.size, wanted: self.wanted, ports })
    }

    fn restore(&mut self, state: ConsoleState) -> Result<(), RestoreError> {
        let ConsoleState { size, wanted, ports } = state;
        if ports.len() != self.lines.len() {
            let (found, own) = (ports.len(), self.lines.len());
            let why = format!("{found} ports saved; the console has {own}");
            return Err(RestoreError::Invalid { kind: ConsoleState::KIND, why });
        }
        self.set_size(size);
        self.wanted = wanted;
        for (line, port) in self.lines.iter_mut().zip(ports) {
            (line.known, line.sent) = port.into();
        }
        Ok(())
    }
}
