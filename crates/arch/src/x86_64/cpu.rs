//! What the processors of a PC look like when the machine starts.

use serde::{Deserialize, Serialize};

/// A segment register with its hidden part (Intel SDM vol. 3A, 3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes, already scaled by the granularity.
    pub limit: u32,
    /// Selector in the descriptor table.
    pub selector: u16,
    /// Access rights as in a descriptor: type, S, DPL, P in bits 0-7; AVL, L, D/B, G in 12-15.
    pub access: u16,
}

/// `GDTR` or `IDTR`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorTable {
    /// Linear base address.
    pub base: u64,
    /// Size in bytes less one.
    pub limit: u16,
}

/// The registers that the boot processor starts with; what is not named here is as after reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuImage {
    /// First instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Frame pointer.
    pub rbp: u64,
    /// Linux: address of `boot_params`.
    pub rsi: u64,
    /// PVH: address of `hvm_start_info`.
    pub rbx: u64,
    /// Flags; bit 1 is always set in a processor.
    pub rflags: u64,
    /// Control register 0.
    pub cr0: u64,
    /// Control register 3: page table root.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Extended feature enable register (MSR 0xc0000080).
    pub efer: u64,
    /// Code segment.
    pub cs: Segment,
    /// Data segment, used for DS, ES, FS, GS and SS.
    pub ds: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdt: DescriptorTable,
    /// Interrupt descriptor table.
    pub idt: DescriptorTable,
}

/// How one processor starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuStart {
    /// At an entry point, with these registers.
    Entry(Box<CpuImage>),
    /// Waiting for the INIT and start-up interrupts of another processor.
    WaitForStartup,
}

impl CpuStart {
    /// The first processor enters at `first`; the others wait for it.
    pub fn for_index(index: u32, first: &CpuImage) -> Self {
        match index {
            0 => Self::Entry(Box::new(*first)),
            _ => Self::WaitForStartup,
        }
    }
}

impl CpuImage {
    /// 16-bit real mode at `segment:offset`, interrupts off, `SS:SP` at `0:stack`: for guests of a
    /// few instructions.
    pub fn real_mode(segment: u16, offset: u16, stack: u16) -> Self {
        let real = |selector: u16, access| Segment {
            base: u64::from(selector) << 4,
            limit: 0xffff,
            selector,
            access,
        };
        Self {
            rip: u64::from(offset),
            rsp: u64::from(stack),
            rflags: 2,
            cr0: 0x10,
            cs: real(segment, 0x9b),
            ds: real(0, 0x93),
            tr: real(0, 0x8b),
            idt: DescriptorTable { base: 0, limit: 0x3ff },
            ..Self::default()
        }
    }

    /// 32-bit protected mode without paging at `rip`, flat segments: the Linux 32-bit protocol and
    /// PVH. `gdt` must hold the descriptors of selectors 0x10 (code) and 0x18 (data).
    pub fn protected_mode(rip: u64, gdt: DescriptorTable) -> Self {
        Self {
            rip,
            rflags: 2,
            cr0: 0x11,
            cs: Segment { base: 0, limit: u32::MAX, selector: 0x10, access: 0xc09b },
            ds: Segment { base: 0, limit: u32::MAX, selector: 0x18, access: 0xc093 },
            tr: Segment { base: 0, limit: 0x67, selector: 0x20, access: 0x8b },
            gdt,
            ..Self::default()
        }
    }

    /// 64-bit long mode at `rip`, with the page tables at `cr3`: the Linux 64-bit protocol. `gdt`
    /// must hold the descriptors of selectors 0x10 (code) and 0x18 (data).
    pub fn long_mode(rip: u64, cr3: u64, gdt: DescriptorTable) -> Self {
        Self {
            cs: Segment { base: 0, limit: u32::MAX, selector: 0x10, access: 0xa09b },
            cr0: 0x8000_0011,
            cr3,
            cr4: 0x20,
            efer: 0x500,
            ..Self::protected_mode(rip, gdt)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_processor_has_an_entry() {
        let first = CpuImage::real_mode(0, 0x7c00, 0x7000);
        assert_eq!(CpuStart::for_index(0, &first), CpuStart::Entry(Box::new(first)));
        assert_eq!(CpuStart::for_index(1, &first), CpuStart::WaitForStartup);
    }

    #[test]
    fn a_real_mode_segment_starts_at_sixteen_times_its_selector() {
        let image = CpuImage::real_mode(0x1000, 0, 0);
        assert_eq!((image.cs.base, image.cs.selector), (0x1_0000, 0x1000));
    }

    #[test]
    fn long_mode_has_paging_and_a_64_bit_code_segment() {
        let image = CpuImage::long_mode(0x10_0200, 0x9000, DescriptorTable::default());
        assert_eq!(image.cr0 & 0x8000_0001, 0x8000_0001);
        assert_eq!(image.cs.access & 0x2000, 0x2000);
        assert_eq!(image.efer & 0x500, 0x500);
    }
}
