//! Devices that other processes serve.

use ::vhost_user::{Settings, VhostUser};
use board::BoardBuilder;

use super::{BuildError, virtio};
use crate::config::Config;

/// Attaches what `config` names, in its order.
pub(super) fn attach(board: &mut BoardBuilder, config: &Config) -> Result<(), BuildError> {
    for (index, device) in config.vhost_user.iter().enumerate() {
        let (id, settings) = device.settings()?;
        let mut place = Place { board, config, name: format!("vhost-user{index}") };
        let socket = device.socket.as_path();
        // A device's type is a constant of its code: these are the types that the configuration takes.
        match id {
            1 => place.attach::<1>(socket, settings),
            2 => place.attach::<2>(socket, settings),
            3 => place.attach::<3>(socket, settings),
            4 => place.attach::<4>(socket, settings),
            8 => place.attach::<8>(socket, settings),
            16 => place.attach::<16>(socket, settings),
            18 => place.attach::<18>(socket, settings),
            19 => place.attach::<19>(socket, settings),
            20 => place.attach::<20>(socket, settings),
            25 => place.attach::<25>(socket, settings),
            32 => place.attach::<32>(socket, settings),
            34 => place.attach::<34>(socket, settings),
            36 => place.attach::<36>(socket, settings),
            41 => place.attach::<41>(socket, settings),
            45 => place.attach::<45>(socket, settings),
            _ => place.attach::<26>(socket, settings),
        }?;
    }
    Ok(())
}

/// Where a device goes.
struct Place<'a> {
    board: &'a mut BoardBuilder,
    config: &'a Config,
    name: String,
}

impl Place<'_> {
    fn attach<const ID: u32>(
        &mut self,
        socket: &std::path::Path,
        settings: Settings,
    ) -> Result<(), BuildError> {
        let device = VhostUser::<ID>::connect(socket, settings)?;
        virtio::attach(self.board, self.config.transport(), &self.name, device)?;
        Ok(())
    }
}
