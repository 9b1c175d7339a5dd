//! Memory beside RAM: what a device gives to the guest, at addresses that firmware does not call RAM.

use arch::Layout;
use board::BoardBuilder;
use disk::Access;
use memory::{Backing, Ram, RamConfig};
use virtio_mem::{Mem, MemConfig};
use virtio_pmem::{Image, Pmem};

use super::{BuildError, MemorySize, virtio};
use crate::config::{self, Config};

/// The devices whose memory it is.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pmem: Vec<Pmem>,
    mem: Option<Mem>,
}

impl Beside {
    /// Finds a place for each, and adds its memory to `ram`.
    pub(super) fn add(
        config: &Config,
        layout: &mut Layout,
        mut ram: Ram,
    ) -> Result<(Ram, Self), BuildError> {
        let mut beside = Self::default();
        for pmem in &config.pmem {
            let (more, pmem) = persistent(pmem, layout, ram)?;
            ram = more;
            beside.pmem.push(pmem);
        }
        // Last: of all memory the device is given what is there now, to give some back to the host.
        if let Some(most) = config.memory_max.size {
            let bytes = most.0.saturating_sub(config.memory.size.0);
            let range = layout.add(bytes)?;
            ram = ram.with(range, backing(config))?;
            let mut mem = Mem::new(ram.memory(), MemConfig::new(range.0, bytes))?;
            mem.set_requested(config.requested().saturating_sub(config.memory.size.0))?;
            beside.mem = Some(mem);
        }
        Ok((ram, beside))
    }

    /// Attaches the devices, persistent memory first, in its order. There is a size to change if
    /// there is memory to gain.
    pub(super) fn attach(
        self,
        board: &mut BoardBuilder,
        config: &Config,
    ) -> Result<Option<MemorySize>, BuildError> {
        for (index, pmem) in self.pmem.into_iter().enumerate() {
            virtio::attach(board, config.transport(), &format!("pmem{index}"), pmem)?;
        }
        let Some(mem) = self.mem else { return Ok(None) };
        let handle = virtio::attach(board, config.transport(), "memory", mem)?;
        Ok(Some(MemorySize::new(config.memory.size.0, handle)))
    }
}

fn persistent(
    pmem: &config::Pmem,
    layout: &mut Layout,
    ram: Ram,
) -> Result<(Ram, Pmem), BuildError> {
    let access = if pmem.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let image = Image::open(&pmem.path, access)?;
    let range = layout.add(image.len())?;
    let failed =
        |source| BuildError::Open { what: "persistent memory", path: pmem.path.clone(), source };
    let ram = ram.with(range, image.backing().map_err(&failed)?)?;
    let pmem = Pmem::new(image, &ram, range.0).map_err(failed)?;
    Ok((ram, pmem))
}

/// What memory is made of that the machine gains, next to what it starts with: as private or shared as
/// that, and never taken before the guest uses it.
fn backing(config: &Config) -> RamConfig {
    let backing = match config.backing() {
        config::Backing::Auto | config::Backing::Private => Backing::Anonymous,
        config::Backing::Shared | config::Backing::File(_) => Backing::Memfd,
    };
    RamConfig { backing, pages: config.memory.pages.into(), prefault: false }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use memory::{Bytes, GuestAddress};

    use super::*;
    use crate::config::{MemoryMax, Part};

    const MIB: u64 = 1 << 20;

    /// An image of 2 MiB that starts with `mark`, and is gone after the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, mark: u8) -> Self {
            let name = format!("purlin-beside-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, vec![mark; 2 << 20]).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn built(config: &Config) -> Result<(Layout, Ram, Beside), BuildError> {
        let mut layout = Layout::for_ram(64 * MIB)?;
        let ram = Ram::new(&layout.ram, Backing::Anonymous)?;
        let (ram, beside) = Beside::add(config, &mut layout, ram)?;
        Ok((layout, ram, beside))
    }

    fn config(pmem: &[&Scratch], memory_max: &str) -> Config {
        let pmem = pmem.iter().map(|file| config::Pmem { path: file.0.clone(), read_only: false });
        Config {
            pmem: pmem.collect(),
            memory: config::Memory::default().with("64M").unwrap(),
            memory_max: MemoryMax::default().with(memory_max).unwrap(),
            ..Config::default()
        }
    }

    #[test]
    fn a_machine_without_such_devices_has_nothing_beside_its_ram() {
        let config = Config { memory: config(&[], "128M").memory, ..Config::default() };
        let (layout, ram, beside) = built(&config).unwrap();
        assert_eq!((layout.beside.len(), ram.bytes()), (0, 64 * MIB));
        assert!(beside.pmem.is_empty() && beside.mem.is_none());
    }

    #[test]
    fn files_come_first_in_their_order_and_what_can_be_gained_last() {
        let (first, second) = (Scratch::new("first", 1), Scratch::new("second", 2));
        let (layout, ram, beside) =
            built(&config(&[&first, &second], "192M,requested=128M")).unwrap();
        let starts: Vec<u64> = layout.beside.iter().map(|(start, _)| start.0 >> 30).collect();
        assert_eq!(starts, [4, 6, 8]);
        assert_eq!((ram.bytes(), layout.ram_bytes()), ((64 + 4 + 128) * MIB, 64 * MIB));
        let marks =
            [4, 6, 8].map(|at| ram.memory().read_obj::<u8>(GuestAddress(at << 30)).unwrap());
        assert_eq!(marks, [1, 2, 0]);
        let mem = beside.mem.unwrap();
        assert_eq!((mem.most(), mem.requested()), (128 * MIB, 64 * MIB));
        assert_eq!(beside.pmem.len(), 2);
    }

    #[test]
    fn one_file_cannot_be_two_memories() {
        let file = Scratch::new("twice", 1);
        let error = built(&config(&[&file, &file], "128M")).unwrap_err();
        assert!(error.is_users(), "{error}");
        assert!(error.to_string().contains("is in use"), "{error}");
    }
}
