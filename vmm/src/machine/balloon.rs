//! The memory balloon.

use std::time::Duration;

use board::BoardBuilder;
use virtio::Handle;
use virtio_balloon::{Balloon, BalloonConfig};

use super::{BuildError, virtio as bus};
use crate::config::Config;

/// Attaches the balloon that `config` asks for, with its target.
pub(super) fn attach(
    board: &mut BoardBuilder,
    config: &Config,
) -> Result<Option<Handle<Balloon>>, BuildError> {
    let Some(settings) = config.balloon else { return Ok(None) };
    let every = (settings.statistics > 0).then(|| Duration::from_secs(settings.statistics.into()));
    let mut balloon = Balloon::new(BalloonConfig {
        deflate_on_oom: settings.deflate_on_oom,
        free_page_reporting: settings.free_page_reporting,
        statistics: every,
    })
    .map_err(BuildError::Timer)?;
    balloon.set_target(settings.size.0);
    Ok(Some(bus::attach(board, config.transport(), "balloon", balloon)?))
}
