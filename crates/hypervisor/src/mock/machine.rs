//! A machine that counts what it is asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arch::IoAddr;
use memory::Region;
use vmm_sys_util::eventfd::EventFd;

use super::{Played, Script};
use crate::{
    Blob, CreateError, Doorbells, Lines, MapError, Msi, MsiMessage, SlotId, StateError, Vcpu, Vm,
    VmState, WireError,
};

/// Interrupt lines that are not messages, as on a PC.
const LINES: u32 = 24;
/// The most vCPUs.
const VCPUS: u32 = 1024;
/// The most memory slots.
const SLOTS: u32 = 509;
/// The class of saved state: edges of each line, eight bytes each.
const CLASS: &str = "LINES";

/// A machine that counts what it is asked for. Its RAM is seen by no guest.
#[derive(Debug)]
pub struct Machine {
    scripts: Arc<Mutex<BTreeMap<u32, Script>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<u32, (Arc<Region>, bool)>,
    vcpus: Vec<u32>,
    lines: Vec<(u32, EventFd)>,
    edges: BTreeMap<u32, u64>,
    /// The lines that are asserted, and how often each was.
    asserted: BTreeSet<u32>,
    rises: BTreeMap<u32, u64>,
    doorbells: Vec<Doorbell>,
    routes: BTreeMap<u32, MsiMessage>,
    messages: Vec<MsiMessage>,
}

#[derive(Debug)]
struct Doorbell {
    at: IoAddr,
    value: Option<u32>,
    /// By which the event is known again.
    fd: RawFd,
    event: EventFd,
}

impl Machine {
    pub(super) fn new(scripts: Arc<Mutex<BTreeMap<u32, Script>>>) -> Self {
        Self { scripts, state: Mutex::default() }
    }

    /// How often line `gsi` was raised.
    pub fn edges(&self, gsi: u32) -> u64 {
        let mut state = self.lock();
        state.count();
        state.edges.get(&gsi).copied().unwrap_or(0)
    }

    /// Whether line `gsi` is asserted, by [`Lines::level`].
    pub fn is_asserted(&self, gsi: u32) -> bool {
        self.lock().asserted.contains(&gsi)
    }

    /// How often line `gsi` went from low to asserted.
    pub fn rises(&self, gsi: u32) -> u64 {
        self.lock().rises.get(&gsi).copied().unwrap_or(0)
    }

    /// The messages sent by [`Msi::send`] and by raising routed lines, in no order between the two.
    pub fn messages(&self) -> Vec<MsiMessage> {
        let mut state = self.lock();
        state.count();
        state.messages.clone()
    }

    /// The message that line `gsi` is routed to.
    pub fn route(&self, gsi: u32) -> Option<MsiMessage> {
        self.lock().routes.get(&gsi).copied()
    }

    /// Whether the guest physical address is RAM, and whether that can be written.
    pub fn ram(&self, address: u64) -> Option<bool> {
        use memory::GuestMemoryRegion;
        let state = self.lock();
        let inside = |region: &Region| {
            address.checked_sub(region.start_addr().0).is_some_and(|offset| offset < region.len())
        };
        state.slots.values().find(|(region, _)| inside(region)).map(|(_, writable)| *writable)
    }

    /// Writes to a doorbell as a guest would; tells whether there was one.
    pub fn ring(&self, at: IoAddr, value: u32) -> bool {
        let state = self.lock();
        let matches =
            |bell: &&Doorbell| bell.at == at && bell.value.is_none_or(|wanted| wanted == value);
        let found = state.doorbells.iter().find(matches);
        found.is_some_and(|bell| bell.event.write(1).is_ok())
    }

    /// The places of the doorbells, in the order in which they were asked for.
    pub fn listening(&self) -> Vec<IoAddr> {
        self.lock().doorbells.iter().map(|bell| bell.at).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, region: Arc<Region>, writable: bool) -> Result<SlotId, MapError> {
        let mut state = self.lock();
        let mapped = state.slots.values().map(|(region, _)| region);
        if let Some(overlap) = MapError::overlap(&region, mapped) {
            return Err(overlap);
        }
        let free = (0..SLOTS).find(|id| !state.slots.contains_key(id));
        let id = free.ok_or(MapError::NoSlot { limit: SLOTS })?;
        state.slots.insert(id, (region, writable));
        Ok(SlotId(id))
    }
}

impl State {
    /// Takes what was signalled since the last count.
    fn count(&mut self) {
        for (gsi, event) in &self.lines {
            let edges = event.read().unwrap_or(0); // nothing was signalled
            *self.edges.entry(*gsi).or_default() += edges;
            if let Some(message) = self.routes.get(gsi) {
                self.messages.extend((0..edges).map(|_| *message));
            }
        }
    }
}

impl Vm for Machine {
    fn map(&self, region: Arc<Region>) -> Result<SlotId, MapError> {
        self.add(region, true)
    }

    fn map_read_only(&self, region: Arc<Region>) -> Result<SlotId, MapError> {
        self.add(region, false)
    }

    fn unmap(&self, slot: SlotId) -> Result<Arc<Region>, MapError> {
        let removed = self.lock().slots.remove(&slot.0);
        removed.map(|(region, _)| region).ok_or(MapError::Unknown(slot.0))
    }

    fn create_vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>, CreateError> {
        if index >= VCPUS {
            return Err(CreateError::VcpuIndex { index, last: VCPUS - 1 });
        }
        let mut state = self.lock();
        if state.vcpus.contains(&index) {
            return Err(CreateError::VcpuTaken { index });
        }
        state.vcpus.push(index);
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        let script = scripts.remove(&index).unwrap_or_else(|| Script::endless([Played::Wait]));
        Ok(Box::new(script.numbered(index)))
    }

    fn lines(&self) -> &dyn Lines {
        self
    }

    fn doorbells(&self) -> &dyn Doorbells {
        self
    }

    fn save(&self) -> Result<VmState, StateError> {
        let mut state = self.lock();
        state.count();
        let edges = |gsi| state.edges.get(&gsi).copied().unwrap_or(0).to_le_bytes();
        let bytes = (0..LINES).flat_map(edges).collect();
        Ok(VmState { classes: [(CLASS.into(), Blob(bytes))].into() })
    }

    fn restore(&self, state: &VmState) -> Result<(), StateError> {
        let bytes = state.classes.get(CLASS).map(|blob| blob.0.as_slice()).unwrap_or_default();
        let (edges, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || edges.len() != LINES as usize {
            let expected = 8 * LINES as usize;
            return Err(StateError::Size { what: CLASS, found: bytes.len(), expected });
        }
        self.lock().edges =
            (0..).zip(edges.iter().map(|edges| u64::from_le_bytes(*edges))).collect();
        Ok(())
    }

    fn msi(&self) -> Option<&dyn Msi> {
        Some(self)
    }
}

impl Lines for Machine {
    fn irqfd(&self, gsi: u32) -> Result<EventFd, WireError> {
        let (event, ours) = pair("an event for an interrupt line")?;
        if gsi >= 4096 {
            return Err(WireError::Gsi { gsi, right: "lines 0 to 4095 are right" });
        }
        self.lock().lines.push((gsi, ours));
        Ok(event)
    }

    fn level(&self, gsi: u32, asserted: bool) -> Result<(), WireError> {
        if gsi >= LINES {
            return Err(WireError::Gsi { gsi, right: "lines 0 to 23 have levels" });
        }
        let mut state = self.lock();
        if !asserted {
            state.asserted.remove(&gsi);
        } else if state.asserted.insert(gsi) {
            *state.rises.entry(gsi).or_default() += 1;
        }
        Ok(())
    }
}

impl Doorbells for Machine {
    fn listen(&self, at: IoAddr, value: Option<u32>, event: &EventFd) -> Result<(), WireError> {
        let refused = |source| WireError::Host { what: format!("an event at {at:?}"), source };
        let mut state = self.lock();
        let shares = |other: Option<u32>| other.is_none() || value.is_none() || other == value;
        if state.doorbells.iter().any(|bell| bell.at == at && shares(bell.value)) {
            return Err(refused(io::ErrorKind::AlreadyExists.into()));
        }
        let fd = event.as_raw_fd();
        let event = event.try_clone().map_err(refused)?;
        state.doorbells.push(Doorbell { at, value, fd, event });
        Ok(())
    }

    fn unlisten(&self, at: IoAddr, value: Option<u32>, event: &EventFd) -> Result<(), WireError> {
        let mut state = self.lock();
        let key = (at, value, event.as_raw_fd());
        let found = state.doorbells.iter().position(|bell| (bell.at, bell.value, bell.fd) == key);
        let found = found.ok_or_else(|| WireError::Host {
            what: format!("to give up an event at {at:?}"),
            source: io::ErrorKind::NotFound.into(),
        })?;
        state.doorbells.remove(found);
        Ok(())
    }
}

impl Msi for Machine {
    fn route(&self, gsi: u32, message: Option<MsiMessage>) -> Result<(), WireError> {
        if gsi < LINES {
            return Err(WireError::Gsi { gsi, right: "messages have lines from 24 on" });
        }
        let mut state = self.lock();
        state.count(); // what was raised before went by the old route
        match message {
            Some(message) => state.routes.insert(gsi, message),
            None => state.routes.remove(&gsi),
        };
        Ok(())
    }

    fn send(&self, message: MsiMessage) -> Result<(), WireError> {
        self.lock().messages.push(message);
        Ok(())
    }
}

fn pair(what: &str) -> Result<(EventFd, EventFd), WireError> {
    let refused = |source| WireError::Host { what: what.into(), source };
    let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(refused)?;
    let ours = event.try_clone().map_err(refused)?;
    Ok((event, ours))
}
