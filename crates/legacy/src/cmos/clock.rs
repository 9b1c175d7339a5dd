//! The MC146818 as a state machine: time registers over a host clock, and battery-backed RAM.

use std::{
    fmt, io,
    os::fd::{AsRawFd, RawFd},
    time::{Duration, SystemTime},
};

use device::{AccessError, Action, MutBusDevice, Persist, RestoreError, SaveError, Versioned};
use serde::{Deserialize, Serialize};
use vmm_sys_util::timerfd::TimerFd;

use super::calendar::{DateTime, FIRST, LAST};
use crate::line::Line;

/// Registers and RAM.
pub(super) const SIZE: usize = 128;

const SECOND: u8 = 0x00;
const MINUTE: u8 = 0x02;
const HOUR: u8 = 0x04;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const D: u8 = 0x0d;
const CENTURY: u8 = 0x32;

/// Each time register and its alarm.
const ALARM: [(u8, u8); 3] = [(SECOND, 0x01), (MINUTE, 0x03), (HOUR, 0x05)];
/// An alarm from this value on matches any time.
const ALARM_ANY: u8 = 0xc0;

/// The registers that a clock update writes.
const TIME: [u8; 8] = [SECOND, MINUTE, HOUR, WEEKDAY, DAY, MONTH, YEAR, CENTURY];

const A_UPDATING: u8 = 1 << 7;
/// 32768 Hz time base, 1024 Hz periodic rate: what firmware sets.
const A_DEFAULT: u8 = 0x26;
const B_SET: u8 = 1 << 7;
const B_INTERRUPTS: u8 = ALARMED | UPDATED;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;
/// Interrupt enable in B, flag in C: the alarm has come.
const ALARMED: u8 = 1 << 5;
/// Interrupt enable in B, flag in C: a second has passed.
const UPDATED: u8 = 1 << 4;
const C_INTERRUPT: u8 = 1 << 7;
const C_FLAGS: u8 = C_INTERRUPT | ALARMED | UPDATED;
const D_VALID: u8 = 1 << 7;
const HOUR_PM: u8 = 1 << 7;

/// An update announces itself this long before it happens (datasheet: t_BUC).
const UPDATE_NANOS: u32 = 244_000;

/// Where the time comes from.
pub(super) type Host = Box<dyn Fn() -> SystemTime + Send>;

/// The registers, and how far the guest's clock is from the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedCmos {
    index: u8,
    /// RAM. Its time registers count only while the guest has stopped the clock to set it.
    ram: Vec<u8>,
    /// The guest's time less the host's, seconds.
    offset: i64,
}

impl Versioned for SavedCmos {
    const KIND: &'static str = "legacy.cmos";
    const VERSION: u32 = 1;
}

pub(super) struct Clock {
    index: u8,
    ram: [u8; SIZE],
    offset: i64,
    host: Host,
    line: Line,
    /// Expires when the next second begins, while an interrupt is enabled.
    timer: TimerFd,
    /// The second in which the flags were last brought up to date.
    flagged: i64,
}

impl Clock {
    pub(super) fn new(host: Host, line: Line) -> io::Result<Self> {
        let timer = TimerFd::new()?;
        let mut clock = Self { index: 0, ram: [0; SIZE], offset: 0, host, line, timer, flagged: 0 };
        clock.set(A, A_DEFAULT);
        clock.set(B, B_24_HOURS);
        clock.flagged = clock.host_time().0;
        Ok(clock)
    }

    /// What to watch for input; [`tick`](Self::tick) quiets it.
    pub(super) fn timer(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Takes note that time has passed, and raises the line for what the guest wants to hear of.
    pub(super) fn tick(&mut self) {
        self.flag();
        if self.get(C) & self.get(B) & B_INTERRUPTS != 0 {
            self.set(C, self.get(C) | C_INTERRUPT);
            self.line.raise();
        }
        self.arm();
    }

    /// Sets the flags for the seconds that have passed.
    fn flag(&mut self) {
        let now = self.host_time().0;
        if now == self.flagged || self.stopped() {
            return;
        }
        self.flagged = now;
        self.update();
        let alarm = ALARM.iter().all(|(time, alarm)| {
            self.get(*alarm) >= ALARM_ANY || self.get(*alarm) == self.get(*time)
        });
        let flags = if alarm { UPDATED | ALARMED } else { UPDATED };
        self.set(C, self.get(C) | flags);
    }

    /// Sets the timer to the next second if the guest wants to hear of it. Setting it also takes
    /// back an expiry that has been handled, so that nobody needs to read it.
    fn arm(&mut self) {
        let wanted = self.get(B) & B_INTERRUPTS != 0 && !self.stopped();
        let rest = 1_000_000_000_u32.saturating_sub(self.host_time().1).max(1);
        let result = match wanted {
            true => self.timer.reset(Duration::from_nanos(u64::from(rest)), None),
            false => self.timer.clear(),
        };
        if let Err(error) = result {
            log::warn!("the clock's interrupts stop: its timer cannot be set: {error}");
        }
    }

    fn get(&self, register: u8) -> u8 {
        self.ram.get(usize::from(register)).copied().unwrap_or(0xff)
    }

    /// Stores a byte, whatever it means.
    pub(super) fn set(&mut self, register: u8, value: u8) {
        if let Some(byte) = self.ram.get_mut(usize::from(register)) {
            *byte = value;
        }
    }

    /// Seconds since 1970 on the host's clock, and the nanoseconds beyond.
    fn host_time(&self) -> (i64, u32) {
        // A host whose clock says a time before 1970 has no clock worth showing.
        let since = (self.host)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (i64::try_from(since.as_secs()).unwrap_or(LAST).min(LAST), since.subsec_nanos())
    }

    fn stopped(&self) -> bool {
        self.get(B) & B_SET != 0
    }

    /// Copies the time into its registers, as an update does.
    fn update(&mut self) {
        if self.stopped() {
            return;
        }
        let date = DateTime::from_seconds(self.host_time().0.saturating_add(self.offset));
        let (century, year) = (date.year / 100, date.year % 100);
        let plain = [
            (SECOND, date.second),
            (MINUTE, date.minute),
            (WEEKDAY, date.weekday()),
            (DAY, date.day),
            (MONTH, date.month),
            (YEAR, year),
            (CENTURY, century),
        ];
        for (register, value) in plain {
            let value = self.encode(value);
            self.set(register, value);
        }
        let hour = if self.get(B) & B_24_HOURS != 0 {
            self.encode(date.hour)
        } else {
            let half = if date.hour >= 12 { HOUR_PM } else { 0 };
            self.encode((date.hour + 11) % 12 + 1) | half
        };
        self.set(HOUR, hour);
    }

    /// Sets the clock to what the registers say; a date that does not exist changes nothing.
    fn commit(&mut self) {
        let value = |register| self.decode(self.get(register));
        let hour = if self.get(B) & B_24_HOURS != 0 {
            value(HOUR)
        } else {
            let half = if self.get(HOUR) & HOUR_PM != 0 { 12 } else { 0 };
            self.decode(self.get(HOUR) & !HOUR_PM) % 12 + half
        };
        let date = DateTime {
            year: value(CENTURY) * 100 + value(YEAR),
            month: value(MONTH),
            day: value(DAY),
            hour,
            minute: value(MINUTE),
            second: value(SECOND),
        };
        if let Some(seconds) = date.seconds() {
            self.offset = seconds.saturating_sub(self.host_time().0);
        }
    }

    fn encode(&self, value: i64) -> u8 {
        let value = u8::try_from(value.rem_euclid(100)).unwrap_or(0);
        if self.get(B) & B_BINARY != 0 { value } else { value / 10 * 16 + value % 10 }
    }

    fn decode(&self, value: u8) -> i64 {
        let value = i64::from(value);
        if self.get(B) & B_BINARY != 0 { value } else { value / 16 * 10 + value % 16 }
    }

    fn read_register(&mut self) -> u8 {
        let register = self.index;
        if TIME.contains(&register) {
            self.update();
        }
        match register {
            A => {
                let updating = self.host_time().1 >= 1_000_000_000 - UPDATE_NANOS;
                let bit = if updating && !self.stopped() { A_UPDATING } else { 0 };
                self.get(A) & !A_UPDATING | bit
            }
            C => {
                self.flag();
                let flags = self.get(C);
                self.set(C, 0);
                flags
            }
            D => D_VALID,
            _ => self.get(register),
        }
    }

    fn write_register(&mut self, value: u8) {
        let register = self.index;
        match register {
            A => self.set(A, value & !A_UPDATING),
            B => {
                // Before the bits that say how the registers are to be read.
                self.update();
                let was_stopped = self.stopped();
                self.set(B, value);
                if was_stopped && !self.stopped() {
                    self.commit();
                }
                self.flagged = self.host_time().0;
                self.arm();
            }
            C | D => {}
            _ if TIME.contains(&register) => {
                self.update();
                self.set(register, value);
                if !self.stopped() {
                    self.commit();
                }
            }
            _ => self.set(register, value),
        }
    }
}

impl MutBusDevice for Clock {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let [byte] = data else { return Err(AccessError::Width) };
        match offset {
            // The index can only be written.
            1 => *byte = self.read_register(),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        let [byte] = data else { return Err(AccessError::Width) };
        match offset {
            // Bit 7 keeps non-maskable interrupts off; there are none.
            0 => self.index = byte & 0x7f,
            1 => self.write_register(*byte),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(Action::Continue)
    }
}

impl Persist for Clock {
    type State = SavedCmos;

    fn save(&mut self) -> Result<SavedCmos, SaveError> {
        let mut ram = self.ram;
        if !self.stopped() {
            // They follow from the offset, and would differ from one save to the next.
            for register in TIME {
                if let Some(byte) = ram.get_mut(usize::from(register)) {
                    *byte = 0;
                }
            }
        }
        Ok(SavedCmos { index: self.index, ram: ram.to_vec(), offset: self.offset })
    }

    fn restore(&mut self, state: SavedCmos) -> Result<(), RestoreError> {
        let invalid = |why: String| RestoreError::Invalid { kind: SavedCmos::KIND, why };
        let found = state.ram.len();
        let ram = <[u8; SIZE]>::try_from(state.ram)
            .map_err(|_| invalid(format!("{found} bytes of RAM; the chip has {SIZE}")))?;
        if state.index > 0x7f {
            return Err(invalid(format!("index {:#x} is beyond 0x7f", state.index)));
        }
        let reach = LAST - FIRST;
        if !(-reach..=reach).contains(&state.offset) {
            return Err(invalid(format!("an offset of {} s leaves the calendar", state.offset)));
        }
        let flags = ram.get(usize::from(C)).copied().unwrap_or(0);
        if flags & !C_FLAGS != 0 {
            return Err(invalid(format!("flags {flags:#x} have bits beyond {C_FLAGS:#x}")));
        }
        (self.index, self.ram, self.offset) = (state.index, ram, state.offset);
        self.flagged = self.host_time().0;
        if flags & C_INTERRUPT != 0 {
            self.line.raise();
        }
        self.arm();
        Ok(())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("index", &self.index)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
