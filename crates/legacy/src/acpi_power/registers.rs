//! The fixed ACPI hardware as a state machine (ACPI 6.5, 4.8.3).

use device::{AccessError, Action, MutBusDevice, Persist, RestoreError, SaveError, Versioned};
use serde::{Deserialize, Serialize};

use crate::line::Line;

/// PM1 status, 16 bits, write 1 to clear.
const STATUS: u64 = 0x0;
/// PM1 enable, 16 bits.
const ENABLE: u64 = 0x2;
/// PM1 control, 16 bits.
const CONTROL: u64 = 0x4;
/// Reset register, 8 bits.
const RESET: u64 = 0xc;
/// Ports of all of them, with what lies between.
pub(super) const PORTS: u16 = 16;

const POWER_BUTTON: u16 = 1 << 8;
/// What an OS can enable: timer, global lock, power and sleep button, clock.
const ENABLE_BITS: u16 = 0x0721;

const SCI_ENABLE: u16 = 1 << 0;
/// Bus-master reload and sleep type: what control remembers.
const CONTROL_BITS: u16 = 0x1c02;
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE: u16 = 0x1c00;
const SLEEP_TYPE_S5: u16 = 5 << 10;

const RESET_VALUE: u8 = 1;

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedAcpiPower {
    status: u16,
    enable: u16,
    control: u16,
}

impl Versioned for SavedAcpiPower {
    const KIND: &'static str = "legacy.acpi-power";
    const VERSION: u32 = 1;
}

#[derive(Debug)]
pub(super) struct Registers {
    status: u16,
    enable: u16,
    control: u16,
    line: Line,
}

impl Registers {
    pub(super) fn new(line: Line) -> Self {
        Self { status: 0, enable: 0, control: 0, line }
    }

    pub(super) fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
        self.interrupt();
    }

    /// Raises the line if something enabled is pending: lines here are edges, so each write that
    /// leaves something pending needs a new one.
    fn interrupt(&self) {
        if self.status & self.enable != 0 {
            self.line.raise();
        }
    }

    /// The 16 bits at an even `offset`, as they read.
    fn half(&self, offset: u64) -> Result<u16, AccessError> {
        match offset {
            STATUS => Ok(self.status),
            ENABLE => Ok(self.enable),
            CONTROL => Ok(self.control | SCI_ENABLE),
            0x6 | RESET => Ok(0),
            _ => Err(AccessError::NoRegister),
        }
    }

    /// Writes the bits of `mask` in the 16 bits at an even `offset`.
    fn set_half(&mut self, offset: u64, value: u16, mask: u16) -> Result<Action, AccessError> {
        match offset {
            STATUS => self.status &= !(value & mask),
            ENABLE => self.enable = (self.enable & !mask | value & mask) & ENABLE_BITS,
            CONTROL => {
                let value = self.control & !mask | value & mask;
                self.control = value & CONTROL_BITS;
                let sleep = value & SLEEP_ENABLE != 0;
                if sleep && value & SLEEP_TYPE == SLEEP_TYPE_S5 {
                    return Ok(Action::PowerOff);
                }
                return Ok(Action::Continue);
            }
            0x6 => return Ok(Action::Continue), // the reserved half of a 32-bit control write
            _ => return Err(AccessError::NoRegister),
        }
        self.interrupt();
        Ok(Action::Continue)
    }
}

/// Refuses what is not 1, 2 or 4 bytes on a multiple of its width.
fn check(offset: u64, width: usize) -> Result<(), AccessError> {
    match width {
        1 | 2 | 4 if offset >= u64::from(PORTS) => Err(AccessError::NoRegister),
        1 => Ok(()),
        2 | 4 if offset.is_multiple_of(if width == 2 { 2 } else { 4 }) => Ok(()),
        2 | 4 => Err(AccessError::Misaligned),
        _ => Err(AccessError::Width),
    }
}

impl MutBusDevice for Registers {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        check(offset, data.len())?;
        if offset >= RESET && (offset, data.len()) != (RESET, 1) {
            let beside = if offset == RESET { AccessError::Width } else { AccessError::NoRegister };
            return Err(beside);
        }
        for (at, byte) in (offset..).zip(data) {
            let [low, high] = self.half(at & !1)?.to_le_bytes();
            *byte = if at & 1 == 0 { low } else { high };
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        check(offset, data.len())?;
        match (offset, data) {
            (RESET, [RESET_VALUE]) => Ok(Action::Reset),
            (RESET, [_]) => Ok(Action::Continue),
            (RESET, _) => Err(AccessError::Width),
            (even, [value]) if even & 1 == 0 => self.set_half(even, u16::from(*value), 0x00ff),
            (odd, [value]) => self.set_half(odd & !1, u16::from(*value) << 8, 0xff00),
            (_, [low, high]) => self.set_half(offset, u16::from_le_bytes([*low, *high]), 0xffff),
            (_, [a, b, c, d]) => {
                let first = self.set_half(offset, u16::from_le_bytes([*a, *b]), 0xffff)?;
                let second = offset.saturating_add(2);
                self.set_half(second, u16::from_le_bytes([*c, *d]), 0xffff)?;
                Ok(first)
            }
            _ => Err(AccessError::Width),
        }
    }
}

impl Persist for Registers {
    type State = SavedAcpiPower;

    fn save(&mut self) -> Result<SavedAcpiPower, SaveError> {
        let Self { status, enable, control, .. } = *self;
        Ok(SavedAcpiPower { status, enable, control })
    }

    fn restore(&mut self, state: SavedAcpiPower) -> Result<(), RestoreError> {
        let fields = [
            ("status", state.status, POWER_BUTTON),
            ("enable", state.enable, ENABLE_BITS),
            ("control", state.control, CONTROL_BITS),
        ];
        for (name, found, bits) in fields {
            if found & !bits != 0 {
                let why = format!("{name} {found:#x} has bits beyond {bits:#x}");
                return Err(RestoreError::Invalid { kind: SavedAcpiPower::KIND, why });
            }
        }
        (self.status, self.enable, self.control) = (state.status, state.enable, state.control);
        self.interrupt();
        Ok(())
    }
}
