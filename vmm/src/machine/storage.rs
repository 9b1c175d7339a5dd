//! The virtio devices that hold or give data: disks, random numbers.

use std::num::NonZeroU64;

use ::virtio::Handle;
use board::BoardBuilder;
use disk::{Access, BackingError, OpenError, Qcow2, Raw};
use rate::{Rate, Rates};
use virtio_blk::{Blk, BlkConfig};
use virtio_rng::Rng;

use super::{BuildError, virtio};
use crate::config::{self, Cache, Config, Disk, DiskBacking, Engine, Format};

/// Attaches what `config` names, disks first, in their order.
pub(super) fn attach(
    board: &mut BoardBuilder,
    config: &Config,
) -> Result<Vec<Handle<Blk>>, BuildError> {
    let mut disks = Vec::new();
    for (index, disk) in config.disk.iter().enumerate() {
        let name = format!("disk{index}");
        disks.push(virtio::attach(board, config.transport(), &name, open(disk)?)?);
    }
    if let Some(rng) = &config.rng {
        virtio::attach(board, config.transport(), "rng", random(rng)?)?;
    }
    Ok(disks)
}

fn random(rng: &config::Rng) -> Result<Rng, BuildError> {
    let path = rng.path.clone();
    let failed = |source| BuildError::Open { what: "source of random numbers", path, source };
    let device = Rng::open(&rng.path).map_err(failed)?;
    let Some(rate) = rng.bytes_per_sec else { return Ok(device) };
    let rates = Rates { ops: None, bytes: Some(Rate::new(rate)) };
    device.limit(rates).map_err(BuildError::Timer)
}

/// The device for `disk`, whose image is opened and locked.
fn open(disk: &Disk) -> Result<Blk, BuildError> {
    let cache = match disk.cache {
        Cache::WriteBack => virtio_blk::Cache::WriteBack,
        Cache::WriteThrough => virtio_blk::Cache::WriteThrough,
        Cache::Unsafe => virtio_blk::Cache::Unsafe,
    };
    let engine = match disk.engine {
        Engine::Auto => virtio_blk::Engine::Auto,
        Engine::Sync => virtio_blk::Engine::Sync,
        Engine::IoUring => virtio_blk::Engine::IoUring,
    };
    let settings = BlkConfig { cache, identity: disk.id.parse()? };
    let queues = disk.queues.and_then(|queues| u16::try_from(queues).ok()).unwrap_or(1);
    let blk = image(disk, settings)?.queues(queues).engine(engine)?;
    let rates = Rates {
        ops: limit(disk.ops_per_sec, disk.ops_burst),
        bytes: limit(disk.bytes_per_sec, disk.bytes_burst),
    };
    // Also without rates: a running disk can be given some.
    blk.limit(rates).map_err(BuildError::Timer)
}

fn image(disk: &Disk, settings: BlkConfig) -> Result<Blk, BuildError> {
    let path = &disk.path;
    let access = if disk.read_only { Access::ReadOnly } else { Access::ReadWrite };
    if disk.format == Some(Format::Qcow2) {
        let backing = match &disk.backing {
            DiskBacking::Off => disk::Backing::Refused,
            DiskBacking::On => disk::Backing::Any,
            DiskBacking::In(path) => disk::Backing::In(path.clone()),
        };
        let qcow2 = Qcow2::open(path, access, &backing).map_err(|error| refused(error, disk))?;
        return Ok(Blk::new(qcow2, settings));
    }
    let mut raw = Raw::open(path, access).map_err(|error| refused(error, disk))?;
    // Whoever wrote the first bytes must not decide what they mean: that may have been the guest.
    if disk.format.is_none() && raw.begins_as_qcow2().unwrap_or(false) {
        return Err(BuildError::Qcow2 { path: path.clone() });
    }
    if disk.direct {
        raw = raw.direct().map_err(|source| BuildError::Direct { path: path.clone(), source })?;
    }
    Ok(Blk::new(raw, settings))
}

/// Why `disk` cannot be had, with the keys that would help.
fn refused(error: OpenError, disk: &Disk) -> BuildError {
    match error {
        OpenError::Qcow2 { path, .. } if disk.format.is_none() => BuildError::Qcow2 { path },
        OpenError::Backing { path, source: BackingError::Refused { name } } => {
            BuildError::Backing { path, name }
        }
        OpenError::ReadOnly { path, source } => BuildError::ReadOnly { path, source },
        error => error.into(),
    }
}

fn limit(per_second: Option<NonZeroU64>, size: Option<NonZeroU64>) -> Option<Rate> {
    let rate = Rate::new(per_second?);
    Some(size.map_or(rate, |size| rate.size(size.get())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_what_can_be_had_at_once() {
        let (hundred, seven) = (NonZeroU64::new(100), NonZeroU64::new(7));
        let rate = Rate::new(hundred.unwrap());
        assert_eq!(limit(hundred, seven), Some(rate.size(7)));
        assert_eq!(limit(hundred, None), Some(rate.size(100)));
        assert_eq!(limit(None, seven), None);
    }

    #[test]
    fn a_source_of_random_numbers_waits_if_it_has_a_rate() {
        use ::virtio::Device;

        use crate::config::Part;

        let timers = |list: &str| {
            let settings = config::Rng::default().with(list).unwrap();
            random(&settings).unwrap().sources().len()
        };
        assert_eq!((timers("/dev/urandom"), timers("/dev/urandom,bytes-per-sec=1K")), (0, 1));
    }
}
