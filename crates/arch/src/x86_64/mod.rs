//! The PC: what x86-64 fixes.

mod cpu;
mod cpuid;
mod layout;

pub use cpu::{CpuImage, CpuStart, DescriptorTable, Segment};
pub use cpuid::{CpuidEntry, CpuidPolicy};
pub use layout::{
    EBDA_START, HIGH_RAM_START, IDENTITY_MAP, IOAPIC_BASE, ISA_HOLE_END, LAPIC_BASE, Layout,
    LayoutError, MAX_CPUS, MIN_RAM, MMIO_HOLE_START, RAM_ABOVE_4G, TSS_BASE,
};
