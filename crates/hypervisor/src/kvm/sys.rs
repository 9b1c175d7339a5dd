//! The system calls that kvm-ioctls has no safe form of. Nothing else in `kvm` talks to the kernel
//! past its safe methods, but for [`slots`](super::slots) and [`page`](super::page).
#![expect(unsafe_code, reason = "system calls without a safe form in kvm-ioctls")]

use std::{io, os::fd::AsRawFd};

use kvm_bindings::{KVMIO, kvm_signal_mask, kvm_xsave};
use vmm_sys_util::{
    ioctl::{ioctl, ioctl_with_mut_ptr, ioctl_with_ptr, ioctl_with_ref},
    ioctl_io_nr, ioctl_ior_nr, ioctl_iow_nr,
};
use zerocopy::{Immutable, IntoBytes};

ioctl_io_nr!(KVM_RUN, KVMIO, 0x80);
ioctl_iow_nr!(KVM_SET_SIGNAL_MASK, KVMIO, 0x8b, kvm_signal_mask);
ioctl_ior_nr!(KVM_GET_XSAVE2, KVMIO, 0xcf, kvm_xsave);
ioctl_iow_nr!(KVM_SET_XSAVE, KVMIO, 0xa5, kvm_xsave);

/// `struct kvm_signal_mask` with the eight bytes that the kernel's `sigset_t` has on 64-bit hosts.
#[repr(C, packed)]
#[derive(Debug, Clone, Copy, IntoBytes, Immutable)]
struct SignalMask {
    len: u32,
    set: u64,
}

/// `KVM_RUN`. The caller decodes the run page by the result.
pub(super) fn run(vcpu: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: takes no argument; what it writes is the run page, which its owner (`Vcpu`, through
    // `&mut self`) holds no reference into, and guest RAM, which is only accessed volatile.
    checked(unsafe { ioctl(vcpu, KVM_RUN()) })
}

/// The signals blocked inside `KVM_RUN`, bit `n - 1` for signal `n`.
pub(super) fn set_signal_mask(vcpu: &impl AsRawFd, blocked: u64) -> io::Result<()> {
    let mask = SignalMask { len: 8, set: blocked };
    // SAFETY: the kernel reads `len` and then `len` bytes, all inside `mask`.
    checked(unsafe { ioctl_with_ref(vcpu, KVM_SET_SIGNAL_MASK(), &mask) })
}

/// Reads the extended state into a buffer of at least `KVM_CAP_XSAVE2` bytes, `words` words of four.
pub(super) fn get_xsave2(vcpu: &impl AsRawFd, words: &mut [u32]) -> io::Result<()> {
    // SAFETY: the kernel writes `KVM_CAP_XSAVE2` bytes, asked of this VM, and the only caller
    // allocated `words` by that number; no permission for more state is requested after it.
    checked(unsafe { ioctl_with_mut_ptr(vcpu, KVM_GET_XSAVE2(), words.as_mut_ptr()) })
}

/// Writes the extended state from a buffer of at least `KVM_CAP_XSAVE2` bytes.
pub(super) fn set_xsave(vcpu: &impl AsRawFd, words: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads `KVM_CAP_XSAVE2` bytes (4096 where it has no such capability), and
    // the only caller checked that `words` are as many.
    checked(unsafe { ioctl_with_ptr(vcpu, KVM_SET_XSAVE(), words.as_ptr()) })
}

/// The kernel's id of the calling thread.
pub(super) fn thread_id() -> i32 {
    // SAFETY: no arguments, no memory, cannot fail.
    unsafe { libc::gettid() }
}

/// Sends `signal` to one thread of this process.
pub(super) fn signal_thread(thread: i32, signal: i32) -> io::Result<()> {
    // SAFETY: cannot fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: integers only; a thread that is gone, or not ours, is an error and not a target.
    if unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn checked(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
