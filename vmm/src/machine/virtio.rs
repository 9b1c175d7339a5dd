//! The bus that virtio devices are on, as the configuration asks for it.

use arch::Layout;
use board::{BoardBuilder, BoardError};
use device::{Mmio, Range};
use virtio::{Device, Handle};

use crate::config::{Bus, Config};

/// The most room for BARs above 4 GiB, bytes.
const MOST: u64 = 64 << 30;
/// The least that is worth it.
const LEAST: u64 = 1 << 30;

/// Gives `board` the bus for its virtio devices, before them. Guest physical addresses have `bits` bits.
pub(super) fn bus(
    board: &mut BoardBuilder,
    config: &Config,
    layout: &Layout,
    bits: u32,
) -> Result<(), BoardError> {
    let needed = config.bus == Bus::Pci || config.has_virtio();
    match config.transport() {
        Bus::Pci if needed => board.pci(window(layout.end(), bits)),
        _ => Ok(()),
    }
}

/// Attaches `device` under `name`. Every virtio device of a machine comes this way.
pub(super) fn attach<D: Device>(
    board: &mut BoardBuilder,
    bus: Bus,
    name: &str,
    device: D,
) -> Result<Handle<D>, BoardError> {
    match bus {
        Bus::Mmio => board.attach(name, virtio::mmio(device)),
        _ => board.attach(name, virtio::pci(device)),
    }
}

/// Where BARs can be above `end`, behind all memory: as much as guests can address, up to [`MOST`], at
/// a multiple of its size.
fn window(end: u64, bits: u32) -> Option<Range<Mmio>> {
    let top = 1_u64.checked_shl(bits).unwrap_or(u64::MAX);
    let sizes = std::iter::successors(Some(MOST), |size| Some(size / 2));
    sizes.take_while(|size| *size >= LEAST).find_map(|size| {
        let first = end.checked_next_multiple_of(size)?;
        (first.checked_add(size)? <= top).then(|| Range::new(first, size).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(end: u64, bits: u32) -> Option<(u64, u64)> {
        window(end, bits).map(|range| (range.first(), range.len_minus_one() + 1))
    }

    #[test]
    fn the_window_lies_above_memory_at_a_multiple_of_its_size() {
        assert_eq!(at(4 << 30, 46), Some((64 << 30, 64 << 30)));
        assert_eq!(at((65 << 30) + 1, 39), Some((128 << 30, 64 << 30)));
    }

    #[test]
    fn the_window_is_smaller_where_addresses_are_few() {
        assert_eq!(at(4 << 30, 36), Some((32 << 30, 32 << 30)));
        assert_eq!(at(62 << 30, 36), Some((62 << 30, 2 << 30)));
        assert_eq!(at(64 << 30, 36), None);
        assert_eq!(at(4 << 30, 32), None);
        assert_eq!(at(u64::MAX, 64), None);
    }
}
