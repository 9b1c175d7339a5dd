//! Configuration space of a function (PCI 3.0 §6.1, §6.2).

use device::{Bar, BarKind, Capability, Identity};

use crate::FunctionError;

/// Bytes that any access mechanism reaches; what PCI Express adds behind them is empty here.
const LEN: usize = 256;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const FIRST_CAPABILITY: usize = 0x40;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;
const INTA: u8 = 1;
const CACHE_LINE: usize = 0x0c;

const IO_SPACE: u32 = 1 << 0;
const MEMORY_SPACE: u32 = 1 << 1;
const BUS_MASTER: u32 = 1 << 2;
/// INTx is not to be asserted.
const INTX_DISABLE: u32 = 1 << 10;
/// I/O space, memory space, bus master, parity, SERR, INTx disable.
const COMMAND_WRITABLE: u16 = 0x0547;
/// Status: the function interrupts, by its pin.
const INTERRUPT_STATUS: u8 = 1 << 3;
/// Status: there are capabilities.
const HAS_CAPABILITIES: u16 = 1 << 4;

/// The configuration space of one function: a header of type 0, its capabilities, and for each bit
/// whether the guest can write it.
///
/// Accesses beyond its 256 bytes, as PCI Express makes them, read as zero: there are no extended
/// capabilities.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; LEN],
    writable: [u8; LEN],
    bars: Vec<Bar>,
    /// Where the last pointer to a capability is.
    tail: usize,
    /// Where the next capability goes.
    next: usize,
}

impl ConfigSpace {
    /// The space of a function with these BARs, which are at address 0 and switched off.
    ///
    /// # Errors
    /// A BAR or the vendor cannot be.
    pub fn new(identity: &Identity, bars: &[Bar]) -> Result<Self, FunctionError> {
        if identity.vendor == 0xffff {
            return Err(FunctionError::Vendor);
        }
        let mut space = Self {
            bytes: [0; LEN],
            writable: [0; LEN],
            bars: Vec::new(),
            tail: CAPABILITIES,
            next: FIRST_CAPABILITY,
        };
        let [base, sub, interface] = identity.class;
        space.fill(0x00, &identity.vendor.to_le_bytes());
        space.fill(0x02, &identity.device.to_le_bytes());
        space.fill(0x08, &[identity.revision, interface, sub, base]);
        space.fill(0x2c, &identity.subsystem_vendor.to_le_bytes());
        space.fill(0x2e, &identity.subsystem.to_le_bytes());
        space.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        space.allow(CACHE_LINE, &[0xff]);
        space.allow(INTERRUPT_LINE, &[0xff]);
        for bar in bars {
            space.add_bar(*bar)?;
        }
        Ok(space)
    }

    fn add_bar(&mut self, bar: Bar) -> Result<(), FunctionError> {
        let Bar { index, kind, size } = bar;
        let len = len_of(&bar);
        if index > 5 || (len == 8 && index > 4) {
            return Err(FunctionError::BarIndex { index });
        }
        let sizes = match kind {
            BarKind::Io => 4..=256,
            BarKind::Memory64 { .. } => 16..=1 << 62,
            _ => 16..=1 << 31,
        };
        if !size.is_power_of_two() || !sizes.contains(&size) {
            return Err(FunctionError::BarSize { index, size });
        }
        let at = register(index);
        let end = |bar: &Bar| bar.index + if len_of(bar) == 8 { 2 } else { 1 };
        if self.bars.iter().any(|other| other.index < end(&bar) && index < end(other)) {
            return Err(FunctionError::BarTaken { index });
        }
        let (flags, low) = match kind {
            BarKind::Io => (0b1, 0b11),
            BarKind::Memory64 { prefetchable } => (if prefetchable { 0b1100 } else { 0b100 }, 0xf),
            _ => (0, 0xf),
        };
        let mask = (!(size - 1) & !low).to_le_bytes();
        self.fill(at, &[flags]);
        self.allow(at, mask.get(..len).unwrap_or(&mask));
        self.bars.push(bar);
        Ok(())
    }

    /// Adds `capability` to the end of the list and says where it is.
    ///
    /// # Errors
    /// The list is full, or the capability's window is not in it.
    pub fn add_capability(&mut self, capability: &Capability) -> Result<u8, FunctionError> {
        let Capability { id, ref body, ref writable, window } = *capability;
        let (at, len) = (self.next, body.len().saturating_add(2));
        let room = LEN.saturating_sub(at);
        let full = FunctionError::CapabilityRoom { id, len, room };
        let offset = u8::try_from(at).map_err(|_| full)?;
        if len > room {
            return Err(full);
        }
        let fits = |field: u8, width: usize| usize::from(field) + width <= body.len();
        if window.is_some_and(|w| {
            !(fits(w.bar, 1) && fits(w.offset, 4) && fits(w.length, 4) && fits(w.data, 4))
        }) {
            return Err(FunctionError::Window { id, len: body.len() });
        }
        self.fill(STATUS, &HAS_CAPABILITIES.to_le_bytes());
        self.fill(self.tail, &[offset]);
        self.fill(at, &[id, 0]);
        self.fill(at + 2, body);
        self.allow(at + 2, writable.get(..body.len()).unwrap_or(writable));
        self.tail = at + 1;
        self.next = (at + len).next_multiple_of(4);
        Ok(offset)
    }

    /// Fills `data` from `offset` on.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (at, byte) in (usize::from(offset)..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// Takes those bits of `data` that can be written.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        for (at, new) in (usize::from(offset)..).zip(data) {
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = *byte & !mask | new & mask;
            }
        }
    }

    /// Whether a write of `len` bytes at `offset` may have moved a BAR, or switched it on or off.
    pub(crate) fn places_bars(offset: u16, len: usize) -> bool {
        let (first, end) = (usize::from(offset), usize::from(offset).saturating_add(len));
        first < BARS + 6 * 4 && end > BARS || first < COMMAND + 2 && end > COMMAND
    }

    /// Its BARs.
    pub fn bars(&self) -> &[Bar] {
        &self.bars
    }

    /// Where `bar` is, whether it is switched on or not.
    pub fn address(&self, bar: &Bar) -> u64 {
        let at = register(bar.index);
        let low = u64::from(self.dword(at));
        match bar.kind {
            BarKind::Io => low & !0b11,
            BarKind::Memory64 { .. } => u64::from(self.dword(at + 4)) << 32 | low & !0xf,
            _ => low & !0xf,
        }
    }

    /// Where `bar` answers: `None` while the command register switches its space off.
    pub fn decoded(&self, bar: &Bar) -> Option<u64> {
        let enable = if bar.kind == BarKind::Io { IO_SPACE } else { MEMORY_SPACE };
        (self.dword(COMMAND) & enable != 0).then(|| self.address(bar))
    }

    /// Whether the function may reach memory and send messages by itself.
    pub fn bus_master(&self) -> bool {
        self.dword(COMMAND) & BUS_MASTER != 0
    }

    /// Gives it an interrupt pin, with `line` in the register that firmware fills.
    pub(crate) fn interrupt_pin(&mut self, line: u8) {
        self.fill(INTERRUPT_LINE, &[line]);
        self.fill(INTERRUPT_PIN, &[INTA]);
    }

    /// Whether the function may assert its interrupt pin.
    pub(crate) fn intx(&self) -> bool {
        self.dword(COMMAND) & INTX_DISABLE == 0
    }

    /// Sets the interrupt status in `data`, which was read from `offset` on.
    pub(crate) fn show_interrupt(offset: u16, data: &mut [u8]) {
        let at = STATUS.checked_sub(offset.into());
        if let Some(status) = at.and_then(|at| data.get_mut(at)) {
            *status |= INTERRUPT_STATUS;
        }
    }

    /// Puts `bar` at `address`, as the guest would.
    pub(crate) fn place(&mut self, bar: &Bar, address: u64) {
        let bytes = address.to_le_bytes();
        let len = len_of(bar);
        let at = u16::try_from(register(bar.index)).unwrap_or(u16::MAX);
        self.write(at, bytes.get(..len).unwrap_or(&bytes));
    }

    /// The dword at `offset`; zero beyond the end.
    pub(crate) fn dword(&self, offset: usize) -> u32 {
        let mut data = [0; 4];
        self.read(u16::try_from(offset).unwrap_or(u16::MAX), &mut data);
        u32::from_le_bytes(data)
    }

    /// Every register.
    pub(crate) fn registers(&self) -> Vec<u32> {
        (0..LEN).step_by(4).map(|offset| self.dword(offset)).collect()
    }

    /// The space with what `registers` say where the guest could have written it; the offset of the
    /// first register that no guest can have written if there is one, or of the one that is missing.
    pub(crate) fn with_registers(&self, registers: &[u32]) -> Result<Self, usize> {
        let mut space = self.clone();
        for (offset, value) in (0_u16..).step_by(4).zip(registers) {
            space.write(offset, &value.to_le_bytes());
        }
        let ours = space.registers();
        match ours.iter().zip(registers).position(|(a, b)| a != b) {
            Some(index) => Err(index * 4),
            None if ours.len() != registers.len() => Err(ours.len().min(registers.len()) * 4),
            None => Ok(space),
        }
    }

    fn fill(&mut self, at: usize, values: &[u8]) {
        for (byte, value) in self.bytes.iter_mut().skip(at).zip(values) {
            *byte = *value;
        }
    }

    fn allow(&mut self, at: usize, masks: &[u8]) {
        for (byte, mask) in self.writable.iter_mut().skip(at).zip(masks) {
            *byte = *mask;
        }
    }
}

/// How many bytes of registers the address of `bar` takes.
fn len_of(bar: &Bar) -> usize {
    if matches!(bar.kind, BarKind::Memory64 { .. }) { 8 } else { 4 }
}

fn register(bar: u8) -> usize {
    BARS + usize::from(bar) * 4
}

#[cfg(test)]
mod tests;
