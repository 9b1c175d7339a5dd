//! Sockets between guest and host.

use std::sync::Arc;

use board::BoardBuilder;
use virtio_vsock::{Endpoint, Vsock, VsockConfig};

use super::{BuildError, Consoles, virtio};
use crate::config::Config;

/// Makes the socket that `config` asks for.
pub(super) fn bind(config: &Config) -> Result<Option<Arc<Endpoint>>, BuildError> {
    let bind = |vsock: &crate::config::Vsock| Ok(Arc::new(Endpoint::bind(&vsock.path)?));
    config.vsock.as_ref().map(bind).transpose()
}

/// Attaches the device whose socket is among `consoles`.
pub(super) fn attach(
    board: &mut BoardBuilder,
    config: &Config,
    consoles: &Consoles,
) -> Result<(), BuildError> {
    let (Some(vsock), Some(endpoint)) = (&config.vsock, consoles.vsock()) else { return Ok(()) };
    let settings = VsockConfig { cid: vsock.address()?, ..VsockConfig::default() };
    let device = Vsock::new(endpoint, settings).map_err(BuildError::Sockets)?;
    virtio::attach(board, config.transport(), "vsock", device)?;
    Ok(())
}
