//! The device that the transports see.

use std::{fmt, os::fd::RawFd, path::Path};

use device::{Persist, RestoreError, SaveError, Versioned};
use virtio::{Chain, Device, Offload, Served};

use crate::{BackendError, Settings, VhostUserState, front::Front};

/// A virtio device of type `ID` whose queues another process serves.
pub struct VhostUser<const ID: u32>(Front);

impl<const ID: u32> VhostUser<ID> {
    /// A device whose back end listens at `socket`, and is there.
    ///
    /// # Errors
    /// It is not, does not keep to the protocol, or lacks what `settings` ask for.
    pub fn connect(socket: impl AsRef<Path>, settings: Settings) -> Result<Self, BackendError> {
        Front::connect(socket.as_ref(), ID, settings).map(Self)
    }

    /// Whether the back end is there.
    pub fn is_connected(&self) -> bool {
        self.0.is_connected()
    }
}

impl<const ID: u32> Device for VhostUser<ID> {
    const ID: u32 = ID;

    fn features(&self) -> u64 {
        self.0.offered
    }

    fn queues(&self) -> &[u16] {
        &self.0.sizes
    }

    fn config(&self) -> &[u8] {
        &self.0.config
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.0.write_config(offset, data);
    }

    fn negotiated(&mut self, features: u64) {
        self.0.negotiated(features);
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn serve(&mut self, _: u16, _: &mut Chain<'_>) -> Served {
        // Not called: the rings are elsewhere.
        Served::Stall
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.0.source()]
    }

    fn offload(&mut self) -> Option<&mut dyn Offload> {
        Some(&mut self.0)
    }
}

impl<const ID: u32> Persist for VhostUser<ID> {
    type State = VhostUserState;

    fn save(&mut self) -> Result<VhostUserState, SaveError> {
        let what = || format!("the vhost-user device of type {ID}, whose requests are in flight,");
        let unknown = |error| SaveError::Read { what: what(), source: Box::new(error) };
        self.0.can_be_saved().map_err(unknown)?;
        Ok(VhostUserState { id: ID, config: self.0.config.clone() })
    }

    fn restore(&mut self, state: VhostUserState) -> Result<(), RestoreError> {
        let kind = VhostUserState::KIND;
        if state.id != ID {
            let why = format!("a device of type {}; this one is of type {ID}", state.id);
            return Err(RestoreError::Invalid { kind, why });
        }
        let invalid = |why| RestoreError::Invalid { kind, why };
        self.0.restore(&state.config).map_err(invalid)
    }
}

impl<const ID: u32> fmt::Debug for VhostUser<ID> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VhostUser").field(&ID).field(&self.0).finish()
    }
}
