//! The root complex: bus 0, its windows, and what is on it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;
use arch::{Node, Window};
use bus::{Mmio, Pio, Range};
use device::{
    AccessError, Action, Attach, AttachError, BarKind, Bdf, BusDevice, EventFd, Irq, IrqLine,
    PciFunction, Persist, RestoreError, SaveError, WireError, Wiring,
};
use snapshot::Versioned;

use crate::{
    ConfigSpace, Host, InsertError, RemoveError, SavedRoot,
    access::{ADDRESS_BITS, Aperture, Ecam, Ports},
    bridge::HostBridge,
    hotplug::{self, Changes, Controller},
    intx::Lines,
    lock,
    place::{Windows, widen},
    routes::{Route, Routes, Space},
    slot::Slot,
    tally::Tally,
};

/// The ports of the configuration mechanism.
const CONFIG_PORTS: (u16, u16) = (0xcf8, 8);
/// Bus 0 has 32 devices of 8 functions of 4 KiB.
const ECAM_LEN: u64 = 1 << 20;
/// The window below 4 GiB that a root complex asks for, bytes.
const MEM32_LEN: u64 = 256 << 20;
const LAST_DEVICE: u8 = 31;

/// A PCI Express root complex with bus 0, to be attached to a machine before its PCI devices.
///
/// It claims ports 0xcf8 to 0xcff, 1 MiB for ECAM and 256 MiB for BARs below 4 GiB from the machine's
/// device window, and what it is given besides. At 00:00.0 is a host bridge.
pub struct RootComplex {
    host: Arc<dyn Host>,
    mem64: Option<Range<Mmio>>,
    io: Option<Range<Pio>>,
}

impl RootComplex {
    /// A root complex without ports for BARs and without room for them above 4 GiB.
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { host, mem64: None, io: None }
    }

    /// Lets 64-bit BARs be in `window`, where there must be no RAM.
    #[must_use]
    pub fn mem64(mut self, window: Range<Mmio>) -> Self {
        self.mem64 = Some(window);
        self
    }

    /// Lets BARs be in the ports of `window`.
    #[must_use]
    pub fn io(mut self, window: Range<Pio>) -> Self {
        self.io = Some(window);
        self
    }
}

impl Attach for RootComplex {
    type Handle = Root;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<Root, AttachError> {
        let ecam = wiring.window(ECAM_LEN)?;
        let mem32 = wiring.window(MEM32_LEN)?;
        let registers = wiring.window(hotplug::LEN)?;
        let (gsi, line) = wiring.irq(Irq::Any)?;
        let windows = Windows { mem32, mem64: self.mem64, io: self.io.and_then(widen) };
        let shared = Arc::new(Shared::new(self.host, windows, line));
        let root = Root(Arc::clone(&shared));
        let bridge = root.insert_at(0, Arc::new(HostBridge));
        bridge.map_err(|error| WireError::Pci(Box::new(error)))?;
        let aperture = |space, first| -> Arc<dyn BusDevice> {
            Arc::new(Aperture { shared: Arc::clone(&shared), space, first })
        };
        let (port, len) = CONFIG_PORTS;
        wiring.pio(Range::new(port, len)?, Arc::new(Ports(Arc::clone(&shared))));
        wiring.mmio(ecam, Arc::new(Ecam(Arc::clone(&shared))));
        wiring.mmio(registers, Arc::new(Controller(Arc::clone(&shared))));
        for window in [Some(mem32), self.mem64].into_iter().flatten() {
            wiring.mmio(window, aperture(Space::Memory, window.first()));
        }
        if let Some(ports) = self.io {
            wiring.pio(ports, aperture(Space::Io, ports.first().into()));
        }
        wiring.persist(Arc::new(Mutex::new(root.clone())));
        let window = |range: Range<Mmio>| Window { first: range.first(), last: range.last() };
        wiring.announce(Node::PciRoot {
            ecam: ecam.first(),
            mem32: window(mem32),
            mem64: self.mem64.map(window),
            io: self.io.and_then(widen).map(window),
            intx: shared.intx.wiring,
        });
        wiring.announce(Node::PciHotplug { base: registers.first(), gsi });
        Ok(root)
    }
}

impl fmt::Debug for RootComplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootComplex")
            .field("mem64", &self.mem64)
            .field("io", &self.io)
            .finish_non_exhaustive()
    }
}

/// The bus of an attached [`RootComplex`]. Clones are the same bus.
#[derive(Clone)]
pub struct Root(Arc<Shared>);

impl Root {
    /// Puts `function` into the lowest free slot, as function 0 of its device. Its BARs are given
    /// addresses and are switched off.
    ///
    /// # Errors
    /// There is no slot or no room, the host gives no interrupts, or the function declares what cannot
    /// be.
    pub fn insert(&self, function: Arc<dyn PciFunction>) -> Result<Bdf, InsertError> {
        self.0.insert(None, function, false)
    }

    /// As [`insert`](Self::insert), as device number `device`.
    ///
    /// # Errors
    /// Those of `insert`, or somebody is there.
    pub fn insert_at(
        &self,
        device: u8,
        function: Arc<dyn PciFunction>,
    ) -> Result<Bdf, InsertError> {
        self.0.insert(Some(device), function, false)
    }

    /// As [`insert`](Self::insert), while the guest runs: it cannot let go of the function before it is
    /// [announced](Self::announce).
    ///
    /// # Errors
    /// Those of `insert`.
    pub fn insert_hot(&self, function: Arc<dyn PciFunction>) -> Result<Bdf, InsertError> {
        self.0.insert(None, function, true)
    }

    /// Has a running guest look at `at`, where a function was [inserted](Self::insert_hot).
    pub fn announce(&self, at: Bdf) {
        lock(&self.0.state).arriving &= !hotplug::bit(at.device());
        self.0.change(at, |changes| &mut changes.came);
    }

    /// Drops the function at `at`, whatever the guest does with it. The host bridge stays.
    pub fn remove(&self, at: Bdf) {
        self.0.take_away(hotplug::bit(at.device()), true);
    }

    /// Asks the guest to let go of the function at `at`. When it has, the function is dropped, and
    /// [`Host::ejected`] is called; a guest may take its time, or never do it.
    ///
    /// # Errors
    /// Nobody is there, or the host bridge.
    pub fn request_removal(&self, at: Bdf) -> Result<(), RemoveError> {
        if at == Bdf::default() {
            return Err(RemoveError::Bridge(at));
        }
        let there = (at.bus(), at.function()) == (0, 0);
        if there && self.0.change(at, |changes| &mut changes.leaving) {
            return Ok(());
        }
        Err(RemoveError::Absent(at))
    }

    /// Where the guest reaches BAR `bar` of the function at `at`; `None` while it does not.
    pub fn mapped(&self, at: Bdf, bar: u8) -> Option<u64> {
        let routes = self.0.routes.load();
        let mut routes = routes.iter();
        let route = routes.find(|route| route.device == at.device() && route.bar.index == bar)?;
        Some(route.at.first())
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices: Vec<u8> = lock(&self.0.state).slots.keys().copied().collect();
        f.debug_struct("Root").field("devices", &devices).finish_non_exhaustive()
    }
}

/// The bus, as its handles and all its claims share it.
pub(crate) struct Shared {
    host: Arc<dyn Host>,
    windows: Windows,
    pub(crate) state: Mutex<State>,
    /// Changed only by whoever holds `state`; read without a lock.
    pub(crate) routes: ArcSwap<Routes>,
    refused: Tally,
    intx: Lines,
    /// Raised when devices have come or are to go.
    line: IrqLine,
}

/// What configuration accesses change.
pub(crate) struct State {
    pub(crate) address: u32,
    slots: BTreeMap<u8, Slot>,
    changes: Changes,
    /// Devices that were put on the bus while the guest runs, and that it was not told of.
    arriving: u32,
    /// Devices that are gone from the bus, while their parts are still taken away.
    ejecting: u32,
    listening: Doorbells,
}

/// The doorbells that the host listens for, by guest physical address and identity of the event.
type Doorbells = BTreeMap<(u64, usize), Arc<EventFd>>;

impl Shared {
    fn new(host: Arc<dyn Host>, windows: Windows, line: IrqLine) -> Self {
        let state = State {
            address: 0,
            slots: BTreeMap::new(),
            changes: Changes::default(),
            arriving: 0,
            ejecting: 0,
            listening: Doorbells::new(),
        };
        let routes = ArcSwap::from_pointee(Routes::default());
        let (intx, refused) = (Lines::new(&host), Tally::default());
        Self { host, windows, state: Mutex::new(state), routes, refused, intx, line }
    }

    /// Notes a change of the device at `at` in one of the two sets, and has the guest look. False if
    /// nobody is there.
    fn change(&self, at: Bdf, set: impl FnOnce(&mut Changes) -> &mut u32) -> bool {
        {
            let mut state = lock(&self.state);
            if !state.slots.contains_key(&at.device()) {
                return false;
            }
            *set(&mut state.changes) |= hotplug::bit(at.device());
        }
        self.raise();
        true
    }

    fn raise(&self) {
        if let Err(error) = self.line.raise() {
            log::error!("the guest is not told of a change on the PCI bus: {error}");
        }
    }

    pub(crate) fn take_changes(&self, set: impl FnOnce(&mut Changes) -> &mut u32) -> u32 {
        std::mem::take(set(&mut lock(&self.state).changes))
    }

    /// The guest lets go of these devices, as far as it was told of them.
    pub(crate) fn eject(&self, devices: u32) {
        self.take_away(devices, false);
    }

    /// Drops the functions of these devices, as far as there are any besides the host bridge; those that
    /// are arriving only if it is `forced`.
    fn take_away(&self, devices: u32, forced: bool) {
        for device in 1..=LAST_DEVICE {
            let bit = hotplug::bit(device);
            if devices & bit == 0 {
                continue;
            }
            let slot = self.take_slot(device, forced);
            // Without the lock: what the function closes may take its time. Until all is done, nobody
            // else gets the slot.
            if let (Some(slot), Some(at)) = (slot, Bdf::new(0, device, 0)) {
                slot.leave();
                drop(slot);
                self.host.ejected(at);
                lock(&self.state).ejecting &= !bit;
            }
        }
    }

    fn take_slot(&self, device: u8, forced: bool) -> Option<Slot> {
        let bit = hotplug::bit(device);
        let mut state = lock(&self.state);
        if state.arriving & bit != 0 && !forced {
            return None;
        }
        let slot = state.slots.remove(&device)?;
        state.arriving &= !bit;
        state.changes.came &= !bit;
        state.changes.leaving &= !bit;
        state.ejecting |= bit;
        self.reroute(&mut state);
        Some(slot)
    }

    fn insert(
        &self,
        device: Option<u8>,
        function: Arc<dyn PciFunction>,
        hot: bool,
    ) -> Result<Bdf, InsertError> {
        let mut state = lock(&self.state);
        let free = |device: &u8| {
            !state.slots.contains_key(device) && state.ejecting & hotplug::bit(*device) == 0
        };
        let device = match device {
            Some(device) => Some(device).filter(free).ok_or(InsertError::Taken { device })?,
            None => (0..=LAST_DEVICE).find(free).ok_or(InsertError::NoSlot)?,
        };
        let at = Bdf::new(0, device, 0).ok_or(InsertError::Taken { device })?;
        let mut slot = Slot::new(function, self.host.as_ref(), self.intx.of(device))?;
        self.place(&state, &mut slot.config)?;
        state.slots.insert(device, slot);
        if hot {
            state.arriving |= hotplug::bit(device);
        }
        Ok(at)
    }

    /// Gives the BARs of a new function addresses, the largest first.
    fn place(&self, state: &State, config: &mut ConfigSpace) -> Result<(), InsertError> {
        let mut taken = (Vec::new(), Vec::new());
        for slot in state.slots.values() {
            for bar in slot.config.bars() {
                if let Ok(range) = Range::new(slot.config.address(bar), bar.size) {
                    if bar.kind == BarKind::Io { taken.1.push(range) } else { taken.0.push(range) }
                }
            }
        }
        let mut bars = config.bars().to_vec();
        bars.sort_by_key(|bar| std::cmp::Reverse(bar.size));
        for bar in &bars {
            let taken = if bar.kind == BarKind::Io { &mut taken.1 } else { &mut taken.0 };
            let none = InsertError::NoRoom { index: bar.index, size: bar.size };
            let range = self.windows.find(bar, taken).ok_or(none)?;
            config.place(bar, range.first());
            taken.push(range);
        }
        Ok(())
    }

    pub(crate) fn config_read(
        &self,
        device: u8,
        offset: u16,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let indirect = {
            let state = lock(&self.state);
            let Some(slot) = state.slots.get(&device) else { return Ok(()) };
            slot.read(offset, data);
            slot.indirect(offset, data.len())
        };
        let Some(to) = indirect else { return Ok(()) };
        data.fill(0xff);
        to.registers.read(to.bar, to.offset, data)
    }

    pub(crate) fn config_write(
        &self,
        device: u8,
        offset: u16,
        data: &[u8],
    ) -> Result<Action, AccessError> {
        let indirect = {
            let mut state = lock(&self.state);
            let Some(slot) = state.slots.get_mut(&device) else { return Ok(Action::Continue) };
            slot.write(offset, data);
            let indirect = slot.indirect(offset, data.len());
            if ConfigSpace::places_bars(offset, data.len()) {
                self.reroute(&mut state);
            }
            indirect
        };
        match indirect {
            Some(to) => to.registers.write(to.bar, to.offset, data),
            None => Ok(Action::Continue),
        }
    }

    /// Makes the routes that the configuration spaces ask for, swaps them in, and moves the doorbells.
    fn reroute(&self, state: &mut State) {
        let mut wanted = Vec::new();
        for (device, Slot { config, registers, .. }) in &state.slots {
            for bar in config.bars() {
                let range = config.decoded(bar).and_then(|at| Range::new(at, bar.size).ok());
                let (device, registers) = (*device, Arc::clone(registers));
                wanted.extend(range.map(|at| Route { at, device, bar: *bar, registers }));
            }
        }
        let routes = Routes::new(wanted, &self.windows, &self.routes.load());
        let mut doorbells = Doorbells::new();
        for Route { at, bar, registers, .. } in routes.iter() {
            for doorbell in registers.doorbells.iter().filter(|it| it.bar == bar.index) {
                let address = at.first().saturating_add(doorbell.offset);
                let event = &doorbell.event;
                doorbells.insert((address, Arc::as_ptr(event).addr()), Arc::clone(event));
            }
        }
        self.routes.store(Arc::new(routes));
        self.listen(&mut state.listening, doorbells);
    }

    /// Has the host listen for `wanted` instead of `now`, which then holds what the host agreed to.
    fn listen(&self, now: &mut Doorbells, wanted: Doorbells) {
        now.retain(|key, event| {
            let stays = wanted.contains_key(key);
            if !stays && let Err(error) = self.host.unlisten(key.0, event) {
                self.warn("cannot be taken away", key.0, &error);
            }
            stays
        });
        for (key, event) in wanted {
            if now.contains_key(&key) {
                continue;
            }
            match self.host.listen(key.0, &event) {
                Ok(()) => drop(now.insert(key, event)),
                Err(error) => self.warn("costs an exit for each write", key.0, &error),
            }
        }
    }

    fn warn(&self, what: &str, address: u64, error: &std::io::Error) {
        if let Some(count) = self.refused.add() {
            log::warn!("the doorbell at {address:#x} {what}: {error} (refusal {count})");
        }
    }
}

impl Persist for Root {
    type State = SavedRoot;

    fn save(&mut self) -> Result<SavedRoot, SaveError> {
        let state = lock(&self.0.state);
        let functions = state.slots.iter().map(|(device, slot)| slot.save(*device)).collect();
        let Changes { came, leaving } = state.changes;
        Ok(SavedRoot { address: state.address, came, leaving, functions })
    }

    fn restore(&mut self, saved: SavedRoot) -> Result<(), RestoreError> {
        let mut state = lock(&self.0.state);
        let invalid = |why| RestoreError::Invalid { kind: SavedRoot::KIND, why };
        let found: Vec<u8> = saved.functions.iter().map(|function| function.device).collect();
        if !state.slots.keys().eq(&found) {
            let here: Vec<&u8> = state.slots.keys().collect();
            return Err(invalid(format!("devices {found:?} instead of {here:?} on bus 0")));
        }
        if saved.address & !ADDRESS_BITS != 0 {
            let address = saved.address;
            return Err(invalid(format!("address register {address:#x} has reserved bits set")));
        }
        let checked = state.slots.values().zip(&saved.functions).map(|(slot, function)| {
            let device = function.device;
            slot.check(function).map_err(|why| invalid(format!("00:{device:02x}.0: {why}")))
        });
        let spaces = checked.collect::<Result<Vec<ConfigSpace>, _>>()?;
        let here = found.iter().fold(0, |here, device| here | hotplug::bit(*device));
        let strangers = (saved.came | saved.leaving) & !(here & !1);
        if strangers != 0 {
            let why = format!("devices {strangers:#x} come or go and are not there");
            return Err(invalid(why));
        }
        state.address = saved.address;
        state.changes = Changes { came: saved.came, leaving: saved.leaving };
        for ((slot, space), function) in state.slots.values_mut().zip(spaces).zip(&saved.functions)
        {
            slot.restore(space, function);
        }
        self.0.reroute(&mut state);
        if state.changes != Changes::default() {
            self.0.raise();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
