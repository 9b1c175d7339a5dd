//! One function in its slot.

use std::{fmt, sync::Arc};

use bus::{Mmio, Range};
use device::{
    AccessError, Action, Bar, BarDoorbell, BarKind, Capability, CapabilityWindow, MsixLayout,
    PciFunction,
};

use crate::{
    ConfigSpace, FunctionError, Host, InsertError, Msix, SavedFunction, capability,
    intx::{Line, Pin},
    msix::ENTRY,
};

/// Message control: MSI-X enable, function mask.
const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_MASK: u32 = 1 << 30;

/// A function and its configuration space.
pub(crate) struct Slot {
    pub(crate) config: ConfigSpace,
    /// Where in the space the MSI-X capability is.
    msix_at: Option<u8>,
    /// Where in the space a capability with a window is, and its fields.
    windows: Vec<(u8, CapabilityWindow)>,
    /// What the function was last told.
    bus_master: bool,
    pin: Option<Arc<Pin>>,
    pub(crate) registers: Arc<Registers>,
}

/// What BAR accesses reach; shared with the routes.
pub(crate) struct Registers {
    function: Arc<dyn PciFunction>,
    bars: Vec<Bar>,
    pub(crate) doorbells: Vec<BarDoorbell>,
    msix: Option<(MsixPlace, Arc<Msix>)>,
}

/// Where the MSI-X structures are in a BAR.
struct MsixPlace {
    bar: u8,
    table: Range<Mmio>,
    pba: Range<Mmio>,
}

/// An access through a capability.
pub(crate) struct Indirect {
    pub(crate) registers: Arc<Registers>,
    pub(crate) bar: u8,
    pub(crate) offset: u64,
}

impl Slot {
    /// Checks what `function` declares and makes its registers, with interrupts from `host`, and `line`
    /// for its pin.
    pub(crate) fn new(
        function: Arc<dyn PciFunction>,
        host: &dyn Host,
        line: Option<&Arc<Line>>,
    ) -> Result<Self, InsertError> {
        let bars = function.bars();
        let mut config = ConfigSpace::new(&function.identity(), &bars)?;
        let layout = function.msix();
        let place = layout.map(|layout| msix_place(&layout, &bars)).transpose()?;
        let doorbells = function.doorbells();
        doorbells.iter().try_for_each(|doorbell| check_doorbell(doorbell, &bars))?;
        let mut windows = Vec::new();
        for declared in function.capabilities() {
            let at = config.add_capability(&declared)?;
            let Capability { window, .. } = declared;
            windows.extend(window.map(|window| (at, window)));
        }
        let mut msix_at = None;
        let mut msix = None;
        let mut lines = Vec::new();
        if let (Some(layout), Some(place)) = (layout, place) {
            msix_at = Some(config.add_capability(&capability::msix(&layout))?);
            let sources: Result<Vec<_>, _> = (0..layout.vectors).map(|_| host.msi()).collect();
            let vectors = Arc::new(Msix::new(sources.map_err(InsertError::Msi)?));
            lines = (0..layout.vectors).map(|vector| vectors.line(vector)).collect();
            msix = Some((place, vectors));
        }
        function.connect(lines);
        let pin = function.intx().zip(line).map(|(intx, line)| {
            config.interrupt_pin(line.register());
            Pin::new(intx, line)
        });
        let registers = Arc::new(Registers { function, bars, doorbells, msix });
        Ok(Self { config, msix_at, windows, bus_master: false, pin, registers })
    }

    /// Reads configuration space, as far as it is not a window's data.
    pub(crate) fn read(&self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        if self.pin.as_ref().is_some_and(|pin| pin.status()) {
            ConfigSpace::show_interrupt(offset, data);
        }
    }

    /// Writes configuration space, as far as it is not a window's data.
    pub(crate) fn write(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
        self.tell_pin();
        if let Some((_, msix)) = &self.registers.msix {
            let (enabled, masked) = self.msix_control();
            msix.control(enabled, masked);
        }
        self.tell_bus_master();
    }

    /// The register that an access of `len` bytes at `offset` reaches through a capability, if it is
    /// exactly a window's data and the window is on a register.
    pub(crate) fn indirect(&self, offset: u16, len: usize) -> Option<Indirect> {
        let body = |at: u8, field: u8| usize::from(at) + 2 + usize::from(field);
        let (at, window) =
            self.windows.iter().find(|(at, w)| body(*at, w.data) == usize::from(offset))?;
        let [bar, _, _, _] = self.config.dword(body(*at, window.bar)).to_le_bytes();
        let start = u64::from(self.config.dword(body(*at, window.offset)));
        let length = self.config.dword(body(*at, window.length));
        let size = self.registers.bars.iter().find(|declared| declared.index == bar)?.size;
        let whole = usize::try_from(length) == Ok(len) && matches!(length, 1 | 2 | 4);
        let inside = start.is_multiple_of(length.into()) && start + u64::from(length) <= size;
        let registers = Arc::clone(&self.registers);
        (whole && inside).then_some(Indirect { registers, bar, offset: start })
    }

    pub(crate) fn save(&self, device: u8) -> SavedFunction {
        let msix = self.registers.msix.as_ref().map(|(_, msix)| msix.save());
        SavedFunction { device, config: self.config.registers(), msix }
    }

    /// The configuration space that `saved` describes, if it is one of this function.
    pub(crate) fn check(&self, saved: &SavedFunction) -> Result<ConfigSpace, String> {
        match (&self.registers.msix, &saved.msix) {
            (Some((_, msix)), Some(saved)) => msix.check(saved)?,
            (None, None) => {}
            (ours, _) => {
                let has = if ours.is_some() { "has" } else { "has no" };
                return Err(format!("the function {has} MSI-X"));
            }
        }
        self.config.with_registers(&saved.config).map_err(|offset| {
            format!("configuration register {offset:#x} is not that of the function here")
        })
    }

    /// Takes `config` and `saved`, which [`check`](Self::check) has found right.
    pub(crate) fn restore(&mut self, config: ConfigSpace, saved: &SavedFunction) {
        self.config = config;
        if let (Some((_, msix)), Some(saved)) = (&self.registers.msix, &saved.msix) {
            let (enabled, masked) = self.msix_control();
            msix.restore(saved, enabled, masked);
        }
        self.tell_pin();
        self.tell_bus_master();
    }

    /// The function is no longer on the bus: it has no more business with guest RAM, and interrupts
    /// nobody.
    pub(crate) fn leave(&self) {
        if let Some(pin) = &self.pin {
            pin.control(false, false);
        }
        if let Some((_, msix)) = &self.registers.msix {
            // The guest may have given its vectors to another function.
            msix.control(false, true);
        }
        self.registers.function.bus_master(false);
    }

    fn tell_pin(&self) {
        if let Some(pin) = &self.pin {
            let (msix, _) = self.msix_control();
            pin.control(!msix, self.config.intx());
        }
    }

    fn tell_bus_master(&mut self) {
        let on = self.config.bus_master();
        if on != self.bus_master {
            self.bus_master = on;
            self.registers.function.bus_master(on);
        }
    }

    /// Whether MSI-X is on, and whether its messages are held back: by its mask, or because the
    /// function may not write to memory, which a message is.
    fn msix_control(&self) -> (bool, bool) {
        let word = self.msix_at.map_or(0, |at| self.config.dword(at.into()));
        let masked = word & MSIX_MASK != 0 || !self.config.bus_master();
        (word & MSIX_ENABLE != 0, masked)
    }
}

impl Registers {
    /// Reads from a BAR; the access lies inside of it.
    pub(crate) fn read(&self, bar: u8, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        if let Some((place, msix)) = self.msix.as_ref().filter(|(place, _)| place.bar == bar) {
            if let Some(offset) = place.table.offset_of(offset, data.len()) {
                return msix.table_read(offset, data);
            }
            if let Some(offset) = place.pba.offset_of(offset, data.len()) {
                return msix.pba_read(offset, data);
            }
        }
        self.function.bar_read(bar, offset, data)
    }

    /// Writes to a BAR; the access lies inside of it.
    pub(crate) fn write(&self, bar: u8, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        if let Some((place, msix)) = self.msix.as_ref().filter(|(place, _)| place.bar == bar) {
            if let Some(offset) = place.table.offset_of(offset, data.len()) {
                return msix.table_write(offset, data).map(|()| Action::Continue);
            }
            if place.pba.offset_of(offset, data.len()).is_some() {
                return Err(AccessError::NoRegister);
            }
        }
        self.function.bar_write(bar, offset, data)
    }
}

fn msix_place(layout: &MsixLayout, bars: &[Bar]) -> Result<MsixPlace, FunctionError> {
    let MsixLayout { vectors, bar, table, pba } = *layout;
    let wrong = FunctionError::Msix { vectors, bar, table, pba };
    let memory = |b: &&Bar| b.index == bar && b.kind != BarKind::Io;
    let size = bars.iter().find(memory).ok_or(wrong)?.size;
    let count = u64::from(vectors);
    let range = |first: u32, len: u64| Range::<Mmio>::new(first.into(), len).map_err(|_| wrong);
    let (table_at, pba_at) = (range(table, count * ENTRY)?, range(pba, count.div_ceil(64) * 8)?);
    let aligned = table.is_multiple_of(8) && pba.is_multiple_of(8);
    let inside = table_at.last() < size && pba_at.last() < size;
    if vectors > 2048 || !aligned || !inside || table_at.overlaps(&pba_at) {
        return Err(wrong);
    }
    Ok(MsixPlace { bar, table: table_at, pba: pba_at })
}

fn check_doorbell(doorbell: &BarDoorbell, bars: &[Bar]) -> Result<(), FunctionError> {
    let BarDoorbell { bar, offset, .. } = *doorbell;
    let holds = |b: &Bar| b.index == bar && b.kind != BarKind::Io && offset < b.size;
    if bars.iter().any(holds) { Ok(()) } else { Err(FunctionError::Doorbell { bar, offset }) }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registers").field("bars", &self.bars).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
