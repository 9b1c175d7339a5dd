//! The memory balloon.

use std::time::Duration;

use board::BoardBuilder;
use virtio::Handle;
use virtio_balloon::{Balloon, BalloonConfig};

use super::{BuildError, virtio as bus};
use crate::config::{self, Config};

/// Attaches the balloon that `config` asks for, with its target.
pub(super) fn attach(
    board: &mut BoardBuilder,
    config: &Config,
) -> Result<Option<Handle<Balloon>>, BuildError> {
    let Some(settings) = config.balloon else { return Ok(None) };
    Ok(Some(bus::attach(board, config.transport(), "balloon", balloon(&settings)?)?))
}

fn balloon(settings: &config::Balloon) -> Result<Balloon, BuildError> {
    let every = (settings.statistics > 0).then(|| Duration::from_secs(settings.statistics.into()));
    let mut balloon = Balloon::new(BalloonConfig {
        deflate_on_oom: settings.deflate_on_oom,
        free_page_reporting: settings.free_page_reporting,
        statistics: every,
    })
    .map_err(BuildError::Timer)?;
    balloon.set_target(settings.size.0);
    Ok(balloon)
}

#[cfg(test)]
mod tests {
    use virtio::Device;

    use super::*;
    use crate::config::Part;

    #[test]
    fn a_balloon_is_as_its_settings_say() {
        let made = |list: &str| {
            let balloon = balloon(&config::Balloon::default().with(list).unwrap()).unwrap();
            (balloon.target(), balloon.features(), balloon.sources().len())
        };
        // Virtio 1.3 §5.5.3: statistics, deflate on out of memory, poison and reporting.
        assert_eq!(made("64M"), (64 << 20, 0, 0));
        assert_eq!(made("on,statistics=5"), (0, 1 << 1, 1));
        assert_eq!(made("on,deflate-on-oom=on"), (0, 1 << 2, 0));
        assert_eq!(made("on,free-page-reporting=on"), (0, 1 << 4 | 1 << 5, 0));
    }
}
