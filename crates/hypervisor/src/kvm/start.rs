//! The state that a vCPU starts with.

use arch::{CpuImage, CpuStart, CpuidEntry, CpuidPolicy, DescriptorTable, Segment};
use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, Msrs, kvm_cpuid_entry2, kvm_dtable, kvm_fpu,
    kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs,
};

use super::{
    class::{refused, unreadable},
    os,
    vcpu::KvmVcpu,
};
use crate::StateError;

/// x87 control word after `fninit`, and SSE control after reset (Intel SDM vol. 3A, 10.1.1).
const FCW: u16 = 0x37f;
const MXCSR: u32 = 0x1f80;

/// What firmware would have set, index and value: fast string instructions on (`IA32_MISC_ENABLE`),
/// and memory write-back unless told otherwise, MTRRs on (`IA32_MTRR_DEF_TYPE`).
const MSRS: [(u32, u64); 2] = [(0x1a0, 1), (0x2ff, 0x806)];

/// Local APIC registers (Intel SDM vol. 3A, 12.4.1) and delivery modes of its two pins, as firmware
/// leaves them on every processor: the PIC on LINT0, NMI on LINT1.
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
const EXT_INT: u32 = 0x700;
const NMI: u32 = 0x400;

pub(super) fn start(
    vcpu: &mut KvmVcpu,
    how: &CpuStart,
    policy: &CpuidPolicy,
) -> Result<(), StateError> {
    let (right, made) = (policy.apic_id(vcpu.index), vcpu.machine.id(vcpu.index));
    if right != made {
        return Err(StateError::Invalid {
            what: "topology",
            why: format!(
                "vCPU {} was made with APIC id {made} and its topology says {right}; \
                 make the machine with the same topology (VmConfig::topology)",
                vcpu.index
            ),
        });
    }
    let host = vcpu.machine.host.cpuid().map_err(|source| unreadable("CPUID", source))?;
    set_cpuid(vcpu, &policy.entries(host, vcpu.index))?;
    set_msrs(vcpu)?;
    set_lapic(vcpu)?;
    match how {
        CpuStart::Entry(image) => enter_at(vcpu, image),
        CpuStart::WaitForStartup => Ok(()), // as KVM makes all vCPUs but the first
    }
}

/// KVM's table of CPUID answers, in this crate's terms.
pub(super) fn entries(table: &CpuId) -> Vec<CpuidEntry> {
    let entry = |entry: &kvm_cpuid_entry2| CpuidEntry {
        leaf: entry.function,
        subleaf: (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0).then_some(entry.index),
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
    };
    table.as_slice().iter().map(entry).collect()
}

/// Decides what CPUID says.
pub(super) fn set_cpuid(vcpu: &KvmVcpu, entries: &[CpuidEntry]) -> Result<(), StateError> {
    let entry = |entry: &CpuidEntry| kvm_cpuid_entry2 {
        function: entry.leaf,
        index: entry.subleaf.unwrap_or(0),
        flags: if entry.subleaf.is_some() { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
        ..kvm_cpuid_entry2::default()
    };
    let entries: Vec<_> = entries.iter().map(entry).collect();
    let table = CpuId::from_entries(&entries).map_err(|_| StateError::Invalid {
        what: "CPUID",
        why: format!("{} entries are more than KVM takes (256)", entries.len()),
    })?;
    vcpu.fd.set_cpuid2(&table).map_err(refused("CPUID"))
}

/// Each by itself, because hosts differ in which they let be written.
fn set_msrs(vcpu: &KvmVcpu) -> Result<(), StateError> {
    for (index, data) in MSRS {
        let entry = kvm_msr_entry { index, data, ..kvm_msr_entry::default() };
        let one = Msrs::from_entries(&[entry]).map_err(|_| StateError::Unsupported("an MSR"))?;
        if let Err(error) = vcpu.fd.set_msrs(&one) {
            log::debug!("the host does not let MSR {index:#x} be written: {error}");
        }
    }
    Ok(())
}

fn set_lapic(vcpu: &KvmVcpu) -> Result<(), StateError> {
    let mut lapic = vcpu.fd.get_lapic().map_err(|error| unreadable("the local APIC", os(error)))?;
    put(&mut lapic, LINT0, EXT_INT);
    put(&mut lapic, LINT1, NMI);
    vcpu.fd.set_lapic(&lapic).map_err(refused("the local APIC"))
}

fn put(lapic: &mut kvm_lapic_state, register: usize, value: u32) {
    for (to, from) in lapic.regs.iter_mut().skip(register).zip(value.to_le_bytes()) {
        *to = from.cast_signed();
    }
}

fn enter_at(vcpu: &KvmVcpu, image: &CpuImage) -> Result<(), StateError> {
    let mut sregs =
        vcpu.fd.get_sregs().map_err(|error| unreadable("the system registers", os(error)))?;
    fill(&mut sregs, image);
    vcpu.fd.set_sregs(&sregs).map_err(refused("the system registers"))?;
    let regs = kvm_regs {
        rip: image.rip,
        rsp: image.rsp,
        rbp: image.rbp,
        rsi: image.rsi,
        rbx: image.rbx,
        rflags: image.rflags | 2,
        ..kvm_regs::default()
    };
    vcpu.fd.set_regs(&regs).map_err(refused("the general registers"))?;
    let fpu = kvm_fpu { fcw: FCW, mxcsr: MXCSR, ..kvm_fpu::default() };
    vcpu.fd.set_fpu(&fpu).map_err(refused("the floating-point registers"))
}

fn fill(sregs: &mut kvm_sregs, image: &CpuImage) {
    let data = segment(&image.ds);
    sregs.cs = segment(&image.cs);
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.tr = segment(&image.tr);
    sregs.gdt = table(&image.gdt);
    sregs.idt = table(&image.idt);
    sregs.cr0 = image.cr0;
    sregs.cr3 = image.cr3;
    sregs.cr4 = image.cr4;
    sregs.efer = image.efer;
}

/// Unpacks the access rights, bit by bit as a descriptor has them.
fn segment(segment: &Segment) -> kvm_segment {
    let bit = |number: u32| u8::from(segment.access >> number & 1 != 0);
    let bits = |first: u32, count: u32| (0..count).map(|n| bit(first + n) << n).sum();
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: bits(0, 4),
        s: bit(4),
        dpl: bits(5, 2),
        present: bit(7),
        avl: bit(12),
        l: bit(13),
        db: bit(14),
        g: bit(15),
        unusable: u8::from(bit(7) == 0),
        padding: 0,
    }
}

fn table(table: &DescriptorTable) -> kvm_dtable {
    kvm_dtable { base: table.base, limit: table.limit, ..kvm_dtable::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_rights_of_a_long_mode_code_segment_are_unpacked() {
        let cs = segment(&CpuImage::long_mode(0, 0, DescriptorTable::default()).cs);
        assert_eq!((cs.type_, cs.s, cs.dpl, cs.present), (0xb, 1, 0, 1));
        assert_eq!((cs.avl, cs.l, cs.db, cs.g), (0, 1, 0, 1));
    }

    #[test]
    fn the_privilege_level_is_two_bits() {
        let user = segment(&Segment { access: 0xf3, ..Segment::default() });
        assert_eq!((user.dpl, user.type_, user.unusable), (3, 3, 0));
    }

    #[test]
    fn a_register_of_the_local_apic_is_written_low_byte_first() {
        let mut lapic = kvm_lapic_state::default();
        put(&mut lapic, LINT0, 0x1_0780);
        assert_eq!(lapic.regs[LINT0..LINT0 + 4], [-128, 7, 1, 0]);
    }
}
