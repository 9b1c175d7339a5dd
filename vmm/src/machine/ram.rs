//! Guest RAM, as the configuration says.

use std::fs::File;

use arch::Layout;
use memory::{Backing, Ram, RamConfig};

use super::BuildError;
use crate::config::{self, Memory};

pub(super) fn build(
    layout: &Layout,
    memory: &Memory,
    backing: &config::Backing,
) -> Result<Ram, BuildError> {
    let backing = match backing {
        config::Backing::Auto | config::Backing::Private => Backing::Anonymous,
        config::Backing::Shared => Backing::Memfd,
        config::Backing::File(path) => {
            let mut options = File::options();
            // A boot needs RAM that reads as zero, whatever the file held before.
            options.read(true).write(true).create(true).truncate(true);
            let failed =
                |source| BuildError::Open { what: "memory file", path: path.clone(), source };
            Backing::Shared(options.open(path).map_err(failed)?)
        }
    };
    let config = RamConfig { backing, pages: memory.pages.into(), prefault: memory.prefault };
    Ok(Ram::new(&layout.ram, config)?)
}
