//! How vCPUs reach configuration space and BARs.

use std::sync::Arc;

use device::{AccessError, Action, BusDevice};

use crate::{lock, root::Shared, routes::Space};

/// The address register and where the data register starts, from port 0xcf8 on (PCI 3.0 §3.2.2.3.2).
const ADDRESS: u64 = 0;
const DATA: u64 = 4;
/// Address register: enable, bus, device, function, register.
pub(crate) const ADDRESS_BITS: u32 = 0x80ff_fffc;
const ENABLE: u32 = 1 << 31;

/// A register of a function: the number of its device on bus 0, and the offset.
struct Target {
    device: u8,
    offset: u16,
}

/// Ports 0xcf8 to 0xcff.
pub(crate) struct Ports(pub(crate) Arc<Shared>);

impl Ports {
    /// What an access at `offset` reaches through the data register; `None` if nobody is there.
    fn target(&self, offset: u64, len: usize) -> Result<Option<Target>, AccessError> {
        let lane = offset.checked_sub(DATA).ok_or(AccessError::NoRegister)?;
        if !matches!(len, 1 | 2 | 4) {
            return Err(AccessError::Width);
        }
        let address = lock(&self.0.state).address;
        let [register, place, bus, _] = address.to_le_bytes();
        let lane = u8::try_from(lane).map_err(|_| AccessError::NoRegister)?;
        let there = address & ENABLE != 0 && bus == 0 && place & 7 == 0;
        let offset = u16::from(register) + u16::from(lane);
        Ok(there.then_some(Target { device: place >> 3, offset }))
    }
}

impl BusDevice for Ports {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        if offset == ADDRESS {
            let data: &mut [u8; 4] = data.try_into().map_err(|_| AccessError::Width)?;
            *data = lock(&self.0.state).address.to_le_bytes();
            return Ok(());
        }
        match self.target(offset, data.len())? {
            Some(target) => self.0.config_read(target.device, target.offset, data),
            None => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        if offset == ADDRESS {
            let data: [u8; 4] = data.try_into().map_err(|_| AccessError::Width)?;
            lock(&self.0.state).address = u32::from_le_bytes(data) & ADDRESS_BITS;
            return Ok(Action::Continue);
        }
        match self.target(offset, data.len())? {
            Some(target) => self.0.config_write(target.device, target.offset, data),
            None => Ok(Action::Continue),
        }
    }
}

/// Configuration space in memory, 4 KiB a function (PCIe 4.0 §7.2.2).
pub(crate) struct Ecam(pub(crate) Arc<Shared>);

/// What an access at `offset` reaches; `None` if nobody can be there.
fn ecam_target(offset: u64, len: usize) -> Result<Option<Target>, AccessError> {
    let width = match len {
        1 => 1,
        2 => 2,
        4 => 4,
        _ => return Err(AccessError::Width),
    };
    if !offset.is_multiple_of(width) {
        return Err(AccessError::Misaligned);
    }
    let register = u16::try_from(offset & 0xfff).map_err(|_| AccessError::NoRegister)?;
    let place = u8::try_from(offset >> 12).map_err(|_| AccessError::NoRegister)?;
    Ok((place & 7 == 0).then_some(Target { device: place >> 3, offset: register }))
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        match ecam_target(offset, data.len())? {
            Some(target) => self.0.config_read(target.device, target.offset, data),
            None => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        match ecam_target(offset, data.len())? {
            Some(target) => self.0.config_write(target.device, target.offset, data),
            None => Ok(Action::Continue),
        }
    }
}

/// A whole window, from address `first` on.
pub(crate) struct Aperture {
    pub(crate) shared: Arc<Shared>,
    pub(crate) space: Space,
    pub(crate) first: u64,
}

impl BusDevice for Aperture {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let routes = self.shared.routes.load();
        let route = routes.find(self.space, self.first.saturating_add(offset), data.len());
        let (route, offset) = route.ok_or(AccessError::NoRegister)?;
        route.registers.read(route.bar.index, offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        let routes = self.shared.routes.load();
        let route = routes.find(self.space, self.first.saturating_add(offset), data.len());
        let (route, offset) = route.ok_or(AccessError::NoRegister)?;
        route.registers.write(route.bar.index, offset, data)
    }
}
