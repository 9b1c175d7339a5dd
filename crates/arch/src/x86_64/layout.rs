//! Where things are in the guest physical address space of a PC.
//!
//! ```text
//! 0x0000_0000  RAM      low memory: start-up structures of `boot`
//! 0x0009_fc00  RAM      EBDA: MP table
//! 0x000a_0000  RAM      reported reserved: where a PC has video memory and option ROMs,
//!                       RSDP and SMBIOS anchors
//! 0x0010_0000  RAM      the kernel and everything else, up to 3 GiB
//! 0xc000_0000           window: device registers, BARs
//! 0xfec0_0000           IOAPIC
//! 0xfee0_0000           local APIC, and where MSIs are written
//! 0xfffb_c000           identity map page and task state segment that KVM keeps on Intel
//! 0x1_0000_0000 RAM     what does not fit below the hole
//!               memory  beside RAM: persistent, hot-plugged (`Layout::add`)
//!               window  BARs of 64 bits (from `Layout::end`)
//! ```

use std::ops::RangeInclusive;

use vm_memory::GuestAddress;

/// Start of the extended BIOS data area, where conventional memory ends.
pub const EBDA_START: u64 = 0x9_fc00;
/// End of the hole that a PC has below 1 MiB (exclusive).
pub const ISA_HOLE_END: u64 = 0x10_0000;
/// Where RAM above the first MiB starts: the classic kernel load address.
pub const HIGH_RAM_START: u64 = 0x10_0000;
/// Start of the hole below 4 GiB that devices share.
pub const MMIO_HOLE_START: u64 = 0xc000_0000;
/// Registers of the in-kernel IOAPIC.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;
/// Registers of each local APIC.
pub const LAPIC_BASE: u64 = 0xfee0_0000;
/// One page for KVM's identity map (`KVM_SET_IDENTITY_MAP_ADDR`).
pub const IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages for KVM's task state segment (`KVM_SET_TSS_ADDR`).
pub const TSS_BASE: u64 = 0xfffb_d000;
/// Where RAM continues above the hole.
pub const RAM_ABOVE_4G: u64 = 0x1_0000_0000;
/// The least RAM that a machine may have, bytes.
pub const MIN_RAM: u64 = 64 << 10;
/// The most vCPUs that a machine may have. 8-bit APIC ids would allow 254.
pub const MAX_CPUS: u32 = 64;

/// The first interrupt line that is handed out to devices; below are the ISA interrupts.
const FIRST_FREE_GSI: u32 = 16;
/// The last pin of the IOAPIC.
const LAST_GSI: u32 = 23;
/// RAM is mapped in pages of 4 KiB.
const PAGE: u64 = 4 << 10;
/// The most RAM that 46-bit physical addresses leave room for, bytes.
const MAX_RAM: u64 = 1 << 45;
/// Where memory beside RAM starts at a multiple of: the largest unit in which Linux hot-plugs memory,
/// and the largest page.
const BESIDE: u64 = 2 << 30;

/// The address layout of one machine, decided by the size of its RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// RAM as start and length in bytes, in order of address, without overlap.
    pub ram: Vec<(GuestAddress, usize)>,
    /// Memory that firmware does not report as RAM, in the same form, all of it above RAM and 4 GiB:
    /// see [`add`](Self::add).
    pub beside: Vec<(GuestAddress, usize)>,
    /// The guest physical addresses from which devices get their windows.
    pub window: RangeInclusive<u64>,
    /// The interrupt lines from which devices get theirs (IOAPIC pins beyond the ISA ones).
    pub gsis: RangeInclusive<u32>,
}

/// Why no machine can have that much RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Too little to hold even the start-up structures.
    #[error("{0} bytes of RAM are too few; a machine has at least {MIN_RAM} bytes")]
    TooSmall(u64),
    /// More than physical addresses can reach.
    #[error("{0} bytes of RAM are too many; a machine has at most {MAX_RAM} bytes")]
    TooLarge(u64),
    /// More beside RAM than physical addresses can reach.
    #[error(
        "there is no place for {0} bytes of memory beside RAM; all memory of a machine ends below \
         {MAX_RAM:#x}"
    )]
    NoPlace(u64),
    /// More than the host's processors let a guest address.
    #[error(
        "memory ends at {end:#x}, which the {bits} bits of a physical address do not reach on this \
         host; ask for less memory"
    )]
    Unreachable {
        /// The first address above all memory.
        end: u64,
        /// Bits of a guest physical address.
        bits: u32,
    },
    /// Not a whole number of pages.
    #[error("{0} bytes of RAM are not a multiple of {PAGE} bytes, the page size")]
    Unaligned(u64),
}

impl Layout {
    /// The layout of a machine with `bytes` of RAM: all below the hole if it fits, the rest above
    /// 4 GiB.
    ///
    /// # Errors
    /// `bytes` is too small, too large or not a whole number of pages.
    pub fn for_ram(bytes: u64) -> Result<Self, LayoutError> {
        if bytes < MIN_RAM {
            return Err(LayoutError::TooSmall(bytes));
        }
        if bytes > MAX_RAM {
            return Err(LayoutError::TooLarge(bytes));
        }
        if !bytes.is_multiple_of(PAGE) {
            return Err(LayoutError::Unaligned(bytes));
        }
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| LayoutError::TooLarge(bytes));
        let low = bytes.min(MMIO_HOLE_START);
        let mut ram = vec![(GuestAddress(0), size(low)?)];
        if bytes > low {
            ram.push((GuestAddress(RAM_ABOVE_4G), size(bytes - low)?));
        }
        Ok(Self {
            ram,
            beside: Vec::new(),
            window: MMIO_HOLE_START..=IOAPIC_BASE - 1,
            gsis: FIRST_FREE_GSI..=LAST_GSI,
        })
    }

    /// Adds `bytes` of memory [beside](Self::beside) RAM, for a device that has memory of its own to
    /// give: where it is, from a multiple of 2 GiB on. Guests learn of it from the device only.
    ///
    /// # Errors
    /// No place is left below 2^45.
    pub fn add(&mut self, bytes: u64) -> Result<(GuestAddress, usize), LayoutError> {
        let no_place = || LayoutError::NoPlace(bytes);
        let start = self.end().next_multiple_of(BESIDE);
        let end = start.checked_add(bytes).ok_or_else(no_place)?;
        if end > MAX_RAM {
            return Err(no_place());
        }
        let len = usize::try_from(bytes).map_err(|_| no_place())?;
        let range = (GuestAddress(start), len);
        self.beside.push(range);
        Ok(range)
    }

    /// The first address above all memory and above 4 GiB. From there on there is nothing, unless
    /// memory is [added](Self::add).
    pub fn end(&self) -> u64 {
        let ends =
            self.ram.iter().chain(&self.beside).map(|(start, len)| {
                start.0.saturating_add(u64::try_from(*len).unwrap_or(u64::MAX))
            });
        ends.fold(RAM_ABOVE_4G, u64::max)
    }

    /// Whether all memory can be reached by a guest whose physical addresses have `bits` bits.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_reach(&self, bits: u32) -> Result<(), LayoutError> {
        let end = self.end();
        match (end - 1).checked_shr(bits) {
            None | Some(0) => Ok(()),
            Some(_) => Err(LayoutError::Unreachable { end, bits }),
        }
    }

    /// How many bytes of RAM the machine has.
    pub fn ram_bytes(&self) -> u64 {
        self.ram.iter().filter_map(|(_, len)| u64::try_from(*len).ok()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ram_is_one_range_from_zero() {
        let layout = Layout::for_ram(512 << 20).unwrap();
        assert_eq!(layout.ram, [(GuestAddress(0), 512 << 20)]);
    }

    #[test]
    fn ram_that_ends_at_the_hole_stays_whole() {
        let layout = Layout::for_ram(MMIO_HOLE_START).unwrap();
        assert_eq!(layout.ram.len(), 1);
    }

    #[test]
    fn ram_beyond_the_hole_continues_above_4_gib() {
        let layout = Layout::for_ram(5 << 30).unwrap();
        assert_eq!(layout.ram, [(GuestAddress(0), 3 << 30), (GuestAddress(RAM_ABOVE_4G), 2 << 30)]);
        assert_eq!(layout.ram_bytes(), 5 << 30);
    }

    #[test]
    fn sizes_that_no_machine_has_are_refused_with_their_value() {
        assert_eq!(Layout::for_ram(0), Err(LayoutError::TooSmall(0)));
        assert_eq!(Layout::for_ram((1 << 20) + 1), Err(LayoutError::Unaligned((1 << 20) + 1)));
        assert_eq!(Layout::for_ram(u64::MAX), Err(LayoutError::TooLarge(u64::MAX)));
    }

    #[test]
    fn memory_beside_ram_lies_above_all_other_and_4_gib() {
        let mut layout = Layout::for_ram(64 << 20).unwrap();
        assert_eq!(layout.end(), 4 << 30);
        assert_eq!(layout.add(2 << 20), Ok((GuestAddress(4 << 30), 2 << 20)));
        assert_eq!(layout.add(3 << 30), Ok((GuestAddress(6 << 30), 3 << 30)));
        assert_eq!((layout.end(), layout.ram_bytes()), (9 << 30, 64 << 20));
        let mut layout = Layout::for_ram(5 << 30).unwrap();
        assert_eq!(layout.add(4096), Ok((GuestAddress(6 << 30), 4096)));
        assert_eq!(layout.beside, [(GuestAddress(6 << 30), 4096)]);
    }

    #[test]
    fn memory_that_physical_addresses_do_not_reach_is_refused_with_its_size() {
        let mut layout = Layout::for_ram(64 << 20).unwrap();
        for bytes in [MAX_RAM, u64::MAX, MAX_RAM - (4 << 30) + 1] {
            assert_eq!(layout.add(bytes), Err(LayoutError::NoPlace(bytes)));
        }
        assert!(layout.add(MAX_RAM - (4 << 30)).is_ok());
        assert_eq!(layout.end(), MAX_RAM);
    }

    #[test]
    fn memory_beyond_the_reach_of_addresses_is_refused_with_both() {
        let mut layout = Layout::for_ram(64 << 20).unwrap();
        assert_eq!(layout.check_reach(32), Ok(()));
        layout.add(60 << 30).unwrap();
        for enough in [36, 46, 64] {
            assert_eq!(layout.check_reach(enough), Ok(()));
        }
        let end = 64 << 30;
        assert_eq!(layout.check_reach(35), Err(LayoutError::Unreachable { end, bits: 35 }));
        assert_eq!(layout.add(1), Ok((GuestAddress(end), 1)));
        assert!(layout.check_reach(36).is_err());
    }

    #[test]
    fn the_window_lies_between_ram_and_the_interrupt_controllers() {
        let layout = Layout::for_ram(8 << 30).unwrap();
        assert_eq!(*layout.window.start(), MMIO_HOLE_START);
        assert!(*layout.window.end() < IOAPIC_BASE);
    }
}
