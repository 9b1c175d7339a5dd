//! The virtio devices that hold or give data: disks, random numbers.

use board::BoardBuilder;
use disk::{Access, Raw};
use virtio_blk::{Blk, BlkConfig};
use virtio_rng::Rng;

use super::BuildError;
use crate::config::{Cache, Config, Disk};

/// Attaches what `config` names, disks first, in their order.
pub(super) fn attach(board: &mut BoardBuilder, config: &Config) -> Result<(), BuildError> {
    for (index, disk) in config.disk.iter().enumerate() {
        board.attach(&format!("disk{index}"), virtio::mmio(open(disk)?))?;
    }
    if let Some(path) = &config.rng {
        let failed = |source| BuildError::Open {
            what: "source of random numbers",
            path: path.clone(),
            source,
        };
        board.attach("rng", virtio::mmio(Rng::open(path).map_err(failed)?))?;
    }
    Ok(())
}

fn open(disk: &Disk) -> Result<Blk, BuildError> {
    let access = if disk.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let cache = match disk.cache {
        Cache::WriteBack => virtio_blk::Cache::WriteBack,
        Cache::WriteThrough => virtio_blk::Cache::WriteThrough,
        Cache::Unsafe => virtio_blk::Cache::Unsafe,
    };
    let settings = BlkConfig { cache, identity: disk.id.parse()? };
    Ok(Blk::new(Raw::open(&disk.path, access)?, settings))
}
