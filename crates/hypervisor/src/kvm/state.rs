//! The whole state of a vCPU: every register class, in the order that restoring needs.

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_fpu, kvm_xsave};
use kvm_ioctls::VcpuFd;

use super::{
    class::{self, Classes, refused},
    msrs, os, start, sys,
    vcpu::KvmVcpu,
};
use crate::{StateError, VcpuState};

pub(super) fn save(vcpu: &KvmVcpu) -> Result<VcpuState, StateError> {
    let fd = &vcpu.fd;
    // Guests with a paravirtual clock are told that time went on without them, so that they do not
    // take the pause for a hang; EINVAL is a guest without one.
    let _ = fd.kvmclock_ctrl();
    let mut classes = Classes::new();
    // First, because reading it delivers interrupts that are on their way into the local APIC.
    class::put(&mut classes, "MP_STATE", fd.get_mp_state())?;
    class::put(&mut classes, "REGS", fd.get_regs())?;
    class::put(&mut classes, "SREGS", fd.get_sregs())?;
    class::put(&mut classes, "FPU", fd.get_fpu().map(|fpu| fpu_bytes(&fpu)))?;
    classes.insert("XSAVE".into(), xsave(vcpu)?);
    class::put(&mut classes, "XCRS", fd.get_xcrs())?;
    class::put(&mut classes, "DEBUGREGS", fd.get_debug_regs())?;
    class::put(&mut classes, "LAPIC", fd.get_lapic())?;
    class::put(&mut classes, "VCPU_EVENTS", fd.get_vcpu_events())?;
    let list =
        vcpu.machine.host.msrs().map_err(|source| class::unreadable("the MSR list", source))?;
    let cpuid = fd
        .get_cpuid2(KVM_MAX_CPUID_ENTRIES)
        .map_err(|error| class::unreadable("CPUID", os(error)))?;
    Ok(VcpuState {
        classes,
        msrs: msrs::read(fd, list)?,
        cpuid: start::entries(&cpuid),
        tsc_khz: fd.get_tsc_khz().ok(),
    })
}

/// Restores in this order, each step for the sake of those below it:
///
/// 1. CPUID decides which bits of all other registers exist.
/// 2. The time stamp counter's frequency scales what is written to it.
/// 3. SREGS hold the APIC base (the local APIC's state is laid out by its mode) and EFER.
/// 4. XCRS before XSAVE, which it governs; FPU before XSAVE, which contains it.
/// 5. MSRs, with the time stamp counter before the clocks that are derived from it.
/// 6. The local APIC; then its deadline MSR, which counts only while the timer is in that mode.
/// 7. Pending events, which setting any register above may drop.
/// 8. Whether it runs, last, when all else is in place.
pub(super) fn restore(vcpu: &KvmVcpu, state: &VcpuState) -> Result<(), StateError> {
    let fd = &vcpu.fd;
    let classes = &state.classes;
    start::set_cpuid(vcpu, &state.cpuid)?;
    frequency(fd, state.tsc_khz)?;
    fd.set_sregs(&class::get(classes, "SREGS")?).map_err(refused("SREGS"))?;
    fd.set_regs(&class::get(classes, "REGS")?).map_err(refused("REGS"))?;
    fd.set_fpu(&fpu(&class::get(classes, "FPU")?)).map_err(refused("FPU"))?;
    fd.set_xcrs(&class::get(classes, "XCRS")?).map_err(refused("XCRS"))?;
    set_xsave(vcpu, class::bytes(classes, "XSAVE"))?;
    fd.set_debug_regs(&class::get(classes, "DEBUGREGS")?).map_err(refused("DEBUGREGS"))?;
    msrs::write(fd, &state.msrs, msrs::Pass::BeforeLocalApic)?;
    fd.set_lapic(&class::get(classes, "LAPIC")?).map_err(refused("LAPIC"))?;
    msrs::write(fd, &state.msrs, msrs::Pass::AfterLocalApic)?;
    fd.set_vcpu_events(&class::get(classes, "VCPU_EVENTS")?).map_err(refused("VCPU_EVENTS"))?;
    fd.set_mp_state(class::get(classes, "MP_STATE")?).map_err(refused("MP_STATE"))
}

fn frequency(fd: &VcpuFd, khz: Option<u32>) -> Result<(), StateError> {
    match khz {
        // Hosts that cannot scale accept their own frequency only; most restores need no more.
        Some(khz) if fd.get_tsc_khz().ok() != Some(khz) => {
            fd.set_tsc_khz(khz).map_err(refused("the time stamp counter's frequency"))
        }
        _ => Ok(()),
    }
}

/// How many bytes of extended state KVM reads and writes for this machine.
fn xsave_bytes(vcpu: &KvmVcpu) -> usize {
    let bytes = vcpu.machine.fd.check_extension_raw(kvm_bindings::KVM_CAP_XSAVE2.into());
    usize::try_from(bytes).unwrap_or(0).max(size_of::<kvm_xsave>())
}

fn xsave(vcpu: &KvmVcpu) -> Result<crate::Blob, StateError> {
    let unreadable = |source| class::unreadable("XSAVE", source);
    let bytes = xsave_bytes(vcpu);
    let mut words = vec![0u32; bytes.div_ceil(4)];
    if bytes > size_of::<kvm_xsave>() {
        sys::get_xsave2(&vcpu.fd, &mut words).map_err(unreadable)?;
    } else {
        let xsave = vcpu.fd.get_xsave().map_err(|error| unreadable(os(error)))?;
        words = xsave.region.to_vec();
    }
    Ok(crate::Blob(words.into_iter().flat_map(u32::to_le_bytes).collect()))
}

fn set_xsave(vcpu: &KvmVcpu, bytes: &[u8]) -> Result<(), StateError> {
    let expected = xsave_bytes(vcpu).next_multiple_of(4);
    let (words, rest) = bytes.as_chunks::<4>();
    // A host with fewer features saves fewer bytes; what is missing is in its initial state, which
    // the header in the first 4096 bytes says.
    let found = bytes.len();
    if !rest.is_empty() || found < size_of::<kvm_xsave>() || found > expected {
        return Err(StateError::Size { what: "XSAVE", found, expected });
    }
    let mut words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    words.resize(expected / 4, 0);
    sys::set_xsave(&vcpu.fd, &words).map_err(|source| class::unwritable("XSAVE", source))
}

/// The bytes of `struct kvm_fpu`.
const FPU: usize = size_of::<kvm_fpu>();

/// By hand, because the bindings do not declare this structure to be plain bytes.
fn fpu_bytes(fpu: &kvm_fpu) -> [u8; FPU] {
    let mut bytes = [0; FPU];
    let fields = fpu
        .fpr
        .iter()
        .flatten()
        .copied()
        .chain(fpu.fcw.to_le_bytes())
        .chain(fpu.fsw.to_le_bytes())
        .chain([fpu.ftwx, fpu.pad1])
        .chain(fpu.last_opcode.to_le_bytes())
        .chain(fpu.last_ip.to_le_bytes())
        .chain(fpu.last_dp.to_le_bytes())
        .chain(fpu.xmm.iter().flatten().copied())
        .chain(fpu.mxcsr.to_le_bytes())
        .chain(fpu.pad2.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(fields) {
        *to = from;
    }
    bytes
}

/// The inverse of [`fpu_bytes`].
fn fpu(bytes: &[u8; FPU]) -> kvm_fpu {
    let mut rest = bytes.iter().copied();
    let mut fpu = kvm_fpu::default();
    fpu.fpr.iter_mut().flatten().zip(&mut rest).for_each(|(to, from)| *to = from);
    fpu.fcw = u16::from_le_bytes(take(&mut rest));
    fpu.fsw = u16::from_le_bytes(take(&mut rest));
    [fpu.ftwx, fpu.pad1] = take(&mut rest);
    fpu.last_opcode = u16::from_le_bytes(take(&mut rest));
    fpu.last_ip = u64::from_le_bytes(take(&mut rest));
    fpu.last_dp = u64::from_le_bytes(take(&mut rest));
    fpu.xmm.iter_mut().flatten().zip(&mut rest).for_each(|(to, from)| *to = from);
    fpu.mxcsr = u32::from_le_bytes(take(&mut rest));
    fpu.pad2 = u32::from_le_bytes(take(&mut rest));
    fpu
}

fn take<const N: usize>(bytes: &mut impl Iterator<Item = u8>) -> [u8; N] {
    std::array::from_fn(|_| bytes.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floating_point_registers_come_back_from_their_bytes() {
        let bytes: [u8; FPU] = std::array::from_fn(|at| u8::try_from(at % 251).unwrap());
        assert_eq!(fpu_bytes(&fpu(&bytes)), bytes);
    }

    #[test]
    fn the_floating_point_registers_are_where_the_kernel_has_them() {
        let bytes = fpu_bytes(&kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..kvm_fpu::default() });
        assert_eq!(bytes[std::mem::offset_of!(kvm_fpu, fcw)..][..2], [0x7f, 3]);
        assert_eq!(bytes[std::mem::offset_of!(kvm_fpu, mxcsr)..][..2], [0x80, 0x1f]);
    }
}
