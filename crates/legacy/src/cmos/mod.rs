//! The PC's clock and battery-backed RAM.

mod calendar;
mod clock;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use device::{
    Attach, AttachError, EventOps, EventSet, Events, Irq, MutEventSubscriber, Node, Range, Wiring,
};

pub use self::clock::SavedCmos;
use self::clock::{Clock, Host};
use crate::{line::Line, lock};

const PORT: u16 = 0x70;
/// The clock's interrupt line, where PC software expects it.
const IRQ: u32 = 8;
const MIB: u64 = 1 << 20;

/// An MC146818 clock with 128 bytes of registers and RAM, at ports 0x70 (index) and 0x71 (data).
///
/// It shows the host's time in UTC, at first in binary-coded decimal and 24 hours, with the century
/// at register 0x32. A guest that sets it changes its own offset to the host's clock, which is what
/// a snapshot keeps: a restored guest sees the right time, however long it slept. The alarm and the
/// update of each second interrupt on line 8; there is no periodic interrupt.
pub struct Cmos {
    host: Host,
    below: u64,
    above: u64,
}

impl Cmos {
    /// A clock whose RAM also says, where PC firmware would, how much memory there is: `below` and
    /// `above` are the bytes of guest RAM below and above 4 GiB.
    pub fn new(below: u64, above: u64) -> Self {
        Self { host: Box::new(SystemTime::now), below, above }
    }

    /// Takes the time from `host` instead of the host's clock.
    #[must_use]
    pub fn clock(self, host: impl Fn() -> SystemTime + Send + 'static) -> Self {
        Self { host: Box::new(host), ..self }
    }
}

impl Attach for Cmos {
    type Handle = ();

    fn attach(self, wiring: &mut dyn Wiring) -> Result<(), AttachError> {
        self.connect(wiring).map(drop)
    }
}

impl Cmos {
    fn connect(self, wiring: &mut dyn Wiring) -> Result<Arc<Mutex<Clock>>, AttachError> {
        let (_, line) = wiring.irq(Irq::Fixed(IRQ))?;
        let mut clock = Clock::new(self.host, Line::new(line))?;
        for (register, value) in memory_registers(self.below, self.above) {
            clock.set(register, value);
        }
        let clock = Arc::new(Mutex::new(clock));
        wiring.pio(Range::new(PORT, 2)?, clock.clone());
        wiring.persist(clock.clone());
        wiring.poll(Arc::new(Mutex::new(Ticks(clock.clone()))));
        wiring.announce(Node::Rtc { port: PORT });
        Ok(clock)
    }
}

impl fmt::Debug for Cmos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cmos")
            .field("below", &self.below)
            .field("above", &self.above)
            .finish_non_exhaustive()
    }
}

/// Has the I/O thread tell the clock that a second has begun.
struct Ticks(Arc<Mutex<Clock>>);

impl MutEventSubscriber for Ticks {
    fn init(&mut self, ops: &mut EventOps) {
        let timer = lock(&self.0).timer();
        if let Err(error) = ops.add(Events::new_raw(timer, EventSet::IN)) {
            log::warn!("the clock has no interrupts: its timer cannot be watched: {error}");
        }
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {
        lock(&self.0).tick();
    }
}

/// Where PC firmware leaves the memory size: base memory and memory from 1 MiB on in KiB, memory
/// from 16 MiB on and from 4 GiB on in units of 64 KiB; each as large as its field allows.
fn memory_registers(below: u64, above: u64) -> [(u8, u8); 11] {
    let low_16 = |value: u64| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
    let base = low_16((below / 1024).min(640));
    let extended = low_16(below.saturating_sub(MIB) / 1024);
    let from_16_mib = low_16(below.saturating_sub(16 * MIB) / (64 * 1024));
    let [high_0, high_1, high_2, ..] = (above / (64 * 1024)).min(0xff_ffff).to_le_bytes();
    [
        (0x15, base[0]),
        (0x16, base[1]),
        (0x17, extended[0]),
        (0x18, extended[1]),
        (0x30, extended[0]),
        (0x31, extended[1]),
        (0x34, from_16_mib[0]),
        (0x35, from_16_mib[1]),
        (0x5b, high_0),
        (0x5c, high_1),
        (0x5d, high_2),
    ]
}
