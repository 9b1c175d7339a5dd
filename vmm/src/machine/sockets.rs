//! Sockets between guest and host.

use std::sync::Arc;

use board::BoardBuilder;
use virtio_vsock::{Endpoint, Vsock, VsockConfig};

use super::{BuildError, Consoles, virtio};
use crate::config::{self, Config};

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
    let device = device(vsock, endpoint)?;
    virtio::attach(board, config.transport(), "vsock", device)?;
    Ok(())
}

fn device(vsock: &config::Vsock, endpoint: Arc<Endpoint>) -> Result<Vsock, BuildError> {
    let settings = VsockConfig { cid: vsock.address()?, ..VsockConfig::default() };
    Vsock::new(endpoint, settings).map_err(BuildError::Sockets)
}

#[cfg(test)]
mod tests {
    use ::virtio::Device;

    use super::*;
    use crate::config::Part;

    #[test]
    fn the_guest_has_the_address_that_it_was_given() {
        let path = std::env::temp_dir().join(format!("purlin-vsock-{}", std::process::id()));
        let endpoint = Arc::new(Endpoint::bind(&path).unwrap());
        let vsock = config::Vsock::default().with("s,cid=77").unwrap();
        let device = device(&vsock, endpoint).unwrap();
        assert_eq!(device.config(), 77_u64.to_le_bytes());
    }
}
