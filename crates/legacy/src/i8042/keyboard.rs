//! The PS/2 keyboard behind the controller: commands in, bytes out.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// What a keyboard holds for a host that does not read (the real ones hold 16 to 20).
const QUEUE: usize = 32;

const ACKNOWLEDGE: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;

/// A keyboard with scan code sets 1 and 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keyboard {
    queue: VecDeque<u8>,
    /// The command that waits for its parameter.
    command: Option<u8>,
    scanning: bool,
    set: u8,
    last: u8,
}

impl Default for Keyboard {
    /// As firmware leaves it: scanning, set 2.
    fn default() -> Self {
        Self { queue: VecDeque::new(), command: None, scanning: true, set: 2, last: 0 }
    }
}

impl Keyboard {
    /// Whether the fields can be those of a keyboard.
    pub(super) fn is_valid(&self) -> bool {
        self.queue.len() <= QUEUE
            && matches!(self.set, 1 | 2)
            && matches!(self.command, None | Some(0xed | 0xf0 | 0xf3))
    }

    /// The next byte for the host.
    pub(super) fn pop(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    /// Takes a byte from the host: a command or a parameter.
    pub(super) fn take(&mut self, byte: u8) {
        match self.command.take() {
            Some(command) if byte < 0xed => self.parameter(command, byte),
            _ => self.command(byte),
        }
    }

    fn parameter(&mut self, command: u8, value: u8) {
        match (command, value) {
            (0xf0, 0) => self.answer(&[ACKNOWLEDGE, self.set]),
            (0xf0, 1 | 2) => {
                self.set = value;
                self.answer(&[ACKNOWLEDGE]);
            }
            (0xf0, _) => self.answer(&[RESEND]),
            // Lights and repeat rate: nobody sees them.
            _ => self.answer(&[ACKNOWLEDGE]),
        }
    }

    fn command(&mut self, command: u8) {
        match command {
            0xed | 0xf0 | 0xf3 => {
                self.command = Some(command);
                self.answer(&[ACKNOWLEDGE]);
            }
            0xee => self.answer(&[0xee]),                    // echo
            0xf2 => self.answer(&[ACKNOWLEDGE, 0xab, 0x83]), // an MF2 keyboard
            0xf4 => self.scan(true),
            0xf5 => self.scan(false),
            0xf6 => self.defaults(&[ACKNOWLEDGE]),
            0xff => self.defaults(&[ACKNOWLEDGE, SELF_TEST_PASSED]),
            0xfe => self.answer(&[self.last]),
            _ => self.answer(&[RESEND]),
        }
    }

    fn scan(&mut self, on: bool) {
        self.queue.clear();
        self.scanning = on;
        self.answer(&[ACKNOWLEDGE]);
    }

    fn defaults(&mut self, answer: &[u8]) {
        *self = Self::default();
        self.answer(answer);
    }

    fn answer(&mut self, bytes: &[u8]) {
        // A host that sends commands and reads no answers gets the latest ones.
        let overflow = (self.queue.len() + bytes.len()).saturating_sub(QUEUE);
        self.queue.drain(..overflow.min(self.queue.len()));
        self.queue.extend(bytes);
    }

    /// Presses and releases Ctrl, Alt and Delete. All of it or, if the host does not listen, nothing.
    pub(super) fn ctrl_alt_del(&mut self) -> bool {
        let codes: &[u8] = match self.set {
            1 => &[0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d],
            _ => &[0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14],
        };
        let fits = self.queue.len() + codes.len() <= QUEUE;
        let heard = self.scanning && fits;
        if heard {
            self.queue.extend(codes);
        }
        heard
    }
}
