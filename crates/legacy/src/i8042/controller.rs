//! The controller between the ports 0x60 and 0x64 and the keyboard.

use std::collections::VecDeque;

use device::{AccessError, Action, MutBusDevice, Persist, RestoreError, SaveError, Versioned};
use serde::{Deserialize, Serialize};

use super::keyboard::Keyboard;
use crate::line::Line;

/// Offset of the data port.
pub(super) const DATA: u64 = 0;
/// Offset of the status and command port.
pub(super) const COMMAND: u64 = 4;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SELF_TEST: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;

const MODE_KEYBOARD_IRQ: u8 = 1 << 0;
const MODE_SELF_TEST: u8 = 1 << 2;
const MODE_KEYBOARD_OFF: u8 = 1 << 4;
const MODE_AUX_OFF: u8 = 1 << 5;
const MODE_TRANSLATE: u8 = 1 << 6;

/// Not reset, address line 20 open.
const OUTPUT_PORT: u8 = 0x03;
const OUTPUT_PORT_NO_RESET: u8 = 0x01;

/// How many of the controller's own answers wait for the guest.
const ANSWERS: usize = 8;

/// The state of the controller and its keyboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedI8042 {
    mode: u8,
    /// The byte at the data port.
    output: Option<u8>,
    answers: VecDeque<u8>,
    /// The command that waits for its data byte.
    command: Option<u8>,
    /// Whether the last write went to the command port.
    commanded: bool,
    /// The keyboard has sent a break prefix, which translation merges into the next byte.
    breaking: bool,
    keyboard: Keyboard,
}

impl Versioned for SavedI8042 {
    const KIND: &'static str = "legacy.i8042";
    const VERSION: u32 = 1;
}

/// The controller as a state machine. It has no auxiliary (mouse) port.
#[derive(Debug)]
pub(super) struct Controller {
    state: SavedI8042,
    line: Line,
}

impl Controller {
    /// As a PC's firmware leaves it: tested, translating, interrupts on.
    pub(super) fn new(line: Line) -> Self {
        let mode = MODE_KEYBOARD_IRQ | MODE_SELF_TEST | MODE_AUX_OFF | MODE_TRANSLATE;
        let state = SavedI8042 {
            mode,
            output: None,
            answers: VecDeque::new(),
            command: None,
            commanded: false,
            breaking: false,
            keyboard: Keyboard::default(),
        };
        Self { state, line }
    }

    pub(super) fn ctrl_alt_del(&mut self) -> bool {
        let heard = self.state.keyboard.ctrl_alt_del();
        self.fill();
        heard
    }

    fn has(&self, bit: u8) -> bool {
        self.state.mode & bit != 0
    }

    fn status(&self) -> u8 {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        flag(self.state.output.is_some(), STATUS_OUTPUT_FULL)
            | flag(self.has(MODE_SELF_TEST), STATUS_SELF_TEST)
            | flag(self.state.commanded, STATUS_COMMAND)
            | STATUS_UNLOCKED
    }

    /// Puts the next byte, if any, into the empty data port.
    fn fill(&mut self) {
        if self.state.output.is_none() {
            let next = self.state.answers.pop_front().or_else(|| self.next_key());
            if next.is_some() {
                self.state.output = next;
                self.interrupt();
            }
        }
    }

    fn next_key(&mut self) -> Option<u8> {
        if self.has(MODE_KEYBOARD_OFF) {
            return None;
        }
        loop {
            let byte = self.state.keyboard.pop()?;
            if !self.has(MODE_TRANSLATE) {
                return Some(byte);
            }
            if byte == 0xf0 {
                self.state.breaking = true;
                continue;
            }
            let release = if std::mem::take(&mut self.state.breaking) { 0x80 } else { 0 };
            return Some(translate(byte) | release);
        }
    }

    fn interrupt(&self) {
        if self.state.output.is_some() && self.has(MODE_KEYBOARD_IRQ) {
            self.line.raise();
        }
    }

    fn answer(&mut self, byte: u8) {
        if self.state.answers.len() < ANSWERS {
            self.state.answers.push_back(byte);
        }
        self.fill();
    }

    fn command(&mut self, command: u8) -> Action {
        self.state.commanded = true;
        self.state.command = None;
        match command {
            0x20 => self.answer(self.state.mode),
            0x60 | 0xd1..=0xd4 => self.state.command = Some(command),
            0xa7 => self.set_mode(self.state.mode | MODE_AUX_OFF),
            0xa8 => self.set_mode(self.state.mode & !MODE_AUX_OFF),
            0xa9 => self.answer(0x02), // auxiliary port test: its clock line is stuck
            0xaa => {
                self.state.mode |= MODE_SELF_TEST | MODE_KEYBOARD_OFF | MODE_AUX_OFF;
                self.answer(0x55);
            }
            0xab => self.answer(0x00), // keyboard port test: no error
            0xad => self.set_mode(self.state.mode | MODE_KEYBOARD_OFF),
            0xae => self.set_mode(self.state.mode & !MODE_KEYBOARD_OFF),
            0xc0 => self.answer(0x80), // input port: not locked
            0xd0 => self.answer(OUTPUT_PORT),
            // Pulses output port lines low; line 0 is the processor's reset.
            0xf0..=0xff if command & OUTPUT_PORT_NO_RESET == 0 => return Action::Reset,
            _ => {}
        }
        Action::Continue
    }

    fn data(&mut self, value: u8) -> Action {
        self.state.commanded = false;
        match self.state.command.take() {
            Some(0x60) => self.set_mode(value),
            Some(0xd1) if value & OUTPUT_PORT_NO_RESET == 0 => return Action::Reset,
            // 0xd3 would come back as the mouse's. Coming back as the keyboard's, at once, it tells
            // the driver that there is no auxiliary port, without a timeout.
            Some(0xd2 | 0xd3) => self.answer(value),
            Some(_) => {}
            None => {
                self.state.mode &= !MODE_KEYBOARD_OFF;
                self.state.keyboard.take(value);
                self.fill();
            }
        }
        Action::Continue
    }

    fn set_mode(&mut self, mode: u8) {
        let newly = mode & !self.state.mode;
        self.state.mode = mode;
        if newly & MODE_KEYBOARD_IRQ != 0 {
            self.interrupt();
        }
        self.fill();
    }
}

/// Scan code set 2 to set 1, for what our keyboard sends: answers pass as they are, but for the
/// identification, which drivers know as 0x41 and 0x43.
fn translate(byte: u8) -> u8 {
    match byte {
        0x01 => 0x43,
        0x02 | 0x83 => 0x41,
        0x11 => 0x38,
        0x14 => 0x1d,
        0x71 => 0x53,
        other => other,
    }
}

impl MutBusDevice for Controller {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let [byte] = data else { return Err(AccessError::Width) };
        *byte = match offset {
            DATA => {
                let value = self.state.output.take().unwrap_or(0);
                self.fill();
                value
            }
            COMMAND => self.status(),
            _ => return Err(AccessError::NoRegister),
        };
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        let [byte] = data else { return Err(AccessError::Width) };
        match offset {
            DATA => Ok(self.data(*byte)),
            COMMAND => Ok(self.command(*byte)),
            _ => Err(AccessError::NoRegister),
        }
    }
}

impl Persist for Controller {
    type State = SavedI8042;

    fn save(&mut self) -> Result<SavedI8042, SaveError> {
        Ok(self.state.clone())
    }

    fn restore(&mut self, state: SavedI8042) -> Result<(), RestoreError> {
        let valid = state.answers.len() <= ANSWERS
            && matches!(state.command, None | Some(0x60 | 0xd1..=0xd4))
            && state.keyboard.is_valid();
        if !valid {
            let why = "a queue is too long, or a command takes no data byte".to_owned();
            return Err(RestoreError::Invalid { kind: SavedI8042::KIND, why });
        }
        self.state = state;
        self.interrupt();
        Ok(())
    }
}
