//! Where the structures of a device are in its BAR, and the capabilities that say so (virtio 1.3
//! §4.1.4).

use std::io;

use device::{Bar, BarKind, Capability, CapabilityWindow, MsixLayout};

/// The BAR. It is in 32-bit memory, which every guest reaches; what needs more room has a BAR of its
/// own.
pub(super) const BAR: u8 = 0;
/// The most MSI-X vectors: with as many on every function of the bus, a host has enough.
const MOST_VECTORS: u16 = 128;
/// Bytes from the doorbell of one queue to that of the next (`notify_off_multiplier`).
pub(super) const NOTIFY_STEP: u32 = 4;
/// Structures start at page borders, so that a guest may give them away one by one.
const PAGE: u32 = 4096;

const VENDOR_SPECIFIC: u8 = 0x09;
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// Length of the common configuration, up to the fields that version 1.3 added.
const COMMON_LEN: u32 = 0x40;

/// The structures that the function answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structure {
    Common,
    Isr,
    Notify,
    Device,
}

/// The layout of a BAR for a number of queues and a length of the configuration space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    queues: u16,
    vectors: u16,
    /// First and length of each structure.
    structures: [(Structure, u32, u32); 4],
    table: u32,
    pba: u32,
    size: u64,
}

impl Layout {
    /// # Errors
    /// That many queues, or that long a configuration, cannot be.
    pub(super) fn new(queues: usize, config: usize) -> io::Result<Self> {
        let impossible = || {
            let why = format!(
                "{queues} queues and {config} bytes of configuration cannot be; expected at most \
                 65535 of both"
            );
            io::Error::new(io::ErrorKind::InvalidInput, why)
        };
        let queues = u16::try_from(queues).map_err(|_| impossible())?;
        let config = u16::try_from(config).map_err(|_| impossible())?;
        let vectors = queues.saturating_add(1).min(MOST_VECTORS);
        let mut next = 0_u32;
        // At most 65535 queues of 4 bytes, 65535 bytes and some pages: far from overflowing.
        let mut place = |len: u32| {
            let first = next;
            next = next.saturating_add(len.max(1).next_multiple_of(PAGE));
            first
        };
        let lens = [
            (Structure::Common, COMMON_LEN),
            (Structure::Isr, 1),
            (Structure::Notify, u32::from(queues) * NOTIFY_STEP),
            (Structure::Device, u32::from(config)),
        ];
        let structures = lens.map(|(structure, len)| (structure, place(len), len));
        let (table, pba) =
            (place(u32::from(vectors) * 16), place(u32::from(vectors).div_ceil(64) * 8));
        let size = u64::from(next).next_power_of_two();
        Ok(Self { queues, vectors, structures, table, pba, size })
    }

    pub(super) fn queues(&self) -> u16 {
        self.queues
    }

    pub(super) fn vectors(&self) -> u16 {
        self.vectors
    }

    pub(super) fn bar(&self) -> Bar {
        Bar { index: BAR, kind: BarKind::Memory32, size: self.size }
    }

    pub(super) fn msix(&self) -> MsixLayout {
        MsixLayout { vectors: self.vectors, bar: BAR, table: self.table, pba: self.pba }
    }

    /// Where in the BAR the doorbell of queue number `queue` is.
    pub(super) fn doorbell(&self, queue: u16) -> u64 {
        let [_, _, (_, notify, _), _] = self.structures;
        u64::from(notify) + u64::from(queue) * u64::from(NOTIFY_STEP)
    }

    /// The structure that holds the whole of an access of `len` bytes at `offset`, and the offset in it.
    pub(super) fn find(&self, offset: u64, len: usize) -> Option<(Structure, u64)> {
        let len = u64::try_from(len).ok()?;
        self.structures.iter().find_map(|&(structure, first, size)| {
            let inside = offset.checked_sub(first.into())?;
            (inside.checked_add(len)? <= size.into()).then_some((structure, inside))
        })
    }

    /// The capabilities, besides that of MSI-X.
    pub(super) fn capabilities(&self) -> Vec<Capability> {
        let mut list = Vec::new();
        for (structure, first, len) in self.structures {
            let (kind, extra) = match structure {
                Structure::Common => (COMMON_CFG, &[][..]),
                Structure::Notify => (NOTIFY_CFG, &NOTIFY_STEP.to_le_bytes()[..]),
                Structure::Isr => (ISR_CFG, &[][..]),
                Structure::Device => (DEVICE_CFG, &[][..]),
            };
            // A device without configuration has no structure for it.
            if len > 0 {
                list.push(Capability::new(VENDOR_SPECIFIC, body(kind, first, len, extra)));
            }
        }
        list.push(window());
        list
    }
}

/// `struct virtio_pci_cap` (virtio 1.3 §4.1.4) from its length on, with `extra` behind it.
fn body(kind: u8, offset: u32, length: u32, extra: &[u8]) -> Vec<u8> {
    let len = u8::try_from(extra.len().saturating_add(16)).unwrap_or(u8::MAX);
    let mut body = vec![len, kind, BAR, 0, 0, 0];
    body.extend_from_slice(&offset.to_le_bytes());
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(extra);
    body
}

/// The way to the structures without mapping the BAR (virtio 1.3 §4.1.4.9): the driver chooses BAR,
/// offset and length.
fn window() -> Capability {
    let mut mask = vec![0, 0, 0xff, 0, 0, 0];
    mask.resize(18, 0xff);
    let fields = CapabilityWindow { bar: 2, offset: 6, length: 10, data: 14 };
    Capability::new(VENDOR_SPECIFIC, body(PCI_CFG, 0, 0, &[0; 4])).writable(mask).window(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_apart_and_inside_the_bar() {
        for (queues, config) in [(1, 0), (3, 24), (1023, 60), (1025, 4097), (65535, 65535)] {
            let layout = Layout::new(queues, config).unwrap();
            let msix = layout.msix();
            let table = (u64::from(msix.table), u64::from(msix.vectors) * 16);
            let pba = (u64::from(msix.pba), u64::from(msix.vectors).div_ceil(64) * 8);
            let own = layout.structures.map(|(_, first, len)| (first.into(), len.into()));
            let mut all: Vec<(u64, u64)> = own.into_iter().chain([table, pba]).collect();
            all.sort_unstable();
            assert!(all.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{all:?}");
            assert!(all.iter().all(|(first, len)| first + len <= layout.bar().size), "{all:?}");
        }
        assert!(Layout::new(65536, 0).is_err() && Layout::new(1, 65536).is_err());
    }

    #[test]
    fn each_queue_has_a_vector_while_there_are_some() {
        let vectors = [1, 126, 127, 128, 65535].map(|n| Layout::new(n, 0).unwrap().vectors());
        assert_eq!(vectors, [2, 127, 128, 128, 128]);
    }

    #[test]
    fn an_access_belongs_to_the_structure_that_holds_all_of_it() {
        let layout = Layout::new(2, 8).unwrap();
        let found = |offset, len| layout.find(offset, len);
        assert_eq!(found(0x3e, 2), Some((Structure::Common, 0x3e)));
        assert_eq!(found(0x3e, 4), None);
        assert_eq!(found(0x1000, 1), Some((Structure::Isr, 0)));
        assert_eq!(found(layout.doorbell(1), 4), Some((Structure::Notify, 4)));
        assert_eq!(found(layout.doorbell(2), 1), None);
        assert_eq!(found(0x3007, 1), Some((Structure::Device, 7)));
        assert_eq!(found(u64::MAX, 8), None);
    }

    #[test]
    fn only_a_device_with_a_configuration_has_a_structure_for_it() {
        let kinds = |config| {
            let list = Layout::new(1, config).unwrap().capabilities();
            list.iter().map(|capability| capability.body[1]).collect::<Vec<_>>()
        };
        assert_eq!(kinds(0), [COMMON_CFG, ISR_CFG, NOTIFY_CFG, PCI_CFG]);
        assert_eq!(kinds(1), [COMMON_CFG, ISR_CFG, NOTIFY_CFG, DEVICE_CFG, PCI_CFG]);
    }
}
