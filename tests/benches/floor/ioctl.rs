//! KVM's ioctls, by number (`linux/kvm.h`).
#![expect(unsafe_code, reason = "raw system calls")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use kvm_bindings::{
    KVMIO, kvm_cpuid2, kvm_pit_config, kvm_regs, kvm_sregs, kvm_userspace_memory_region,
};
use libc::{_IO, _IOR, _IOW, _IOWR, Ioctl};

pub(crate) const GET_API_VERSION: Ioctl = _IO(KVMIO, 0x00);
pub(crate) const CREATE_VM: Ioctl = _IO(KVMIO, 0x01);
pub(crate) const GET_VCPU_MMAP_SIZE: Ioctl = _IO(KVMIO, 0x04);
pub(crate) const CREATE_VCPU: Ioctl = _IO(KVMIO, 0x41);
pub(crate) const SET_TSS_ADDR: Ioctl = _IO(KVMIO, 0x47);
pub(crate) const CREATE_IRQCHIP: Ioctl = _IO(KVMIO, 0x60);
const RUN: Ioctl = _IO(KVMIO, 0x80);

/// An ioctl whose argument is a pointer to one kind of structure.
pub(crate) trait Argument: Sized {
    /// The ioctl that reads it.
    const SET: Option<Ioctl>;
    /// The ioctl that writes it, within its size.
    const GET: Option<Ioctl>;
}

/// Address of the identity-mapped page table page.
#[repr(transparent)]
pub(crate) struct IdentityMap(pub(crate) u64);

impl Argument for IdentityMap {
    const SET: Option<Ioctl> = Some(_IOW::<u64>(KVMIO, 0x48));
    const GET: Option<Ioctl> = None;
}

impl Argument for kvm_userspace_memory_region {
    const SET: Option<Ioctl> = Some(_IOW::<Self>(KVMIO, 0x46));
    const GET: Option<Ioctl> = None;
}

impl Argument for kvm_pit_config {
    const SET: Option<Ioctl> = Some(_IOW::<Self>(KVMIO, 0x77));
    const GET: Option<Ioctl> = None;
}

impl Argument for kvm_regs {
    const SET: Option<Ioctl> = Some(_IOW::<Self>(KVMIO, 0x82));
    const GET: Option<Ioctl> = Some(_IOR::<Self>(KVMIO, 0x81));
}

impl Argument for kvm_sregs {
    const SET: Option<Ioctl> = Some(_IOW::<Self>(KVMIO, 0x84));
    const GET: Option<Ioctl> = Some(_IOR::<Self>(KVMIO, 0x83));
}

/// The most answers of CPUID that are asked for.
const CPUID_ENTRIES: usize = 256;

/// `struct kvm_cpuid2` with its entries.
#[repr(C)]
pub(crate) struct Cpuid {
    head: [u32; 2],
    entries: [[u32; 10]; CPUID_ENTRIES],
}

impl Cpuid {
    /// Room for every entry.
    pub(crate) fn new() -> Self {
        Self { head: [256, 0], entries: [[0; 10]; CPUID_ENTRIES] }
    }
}

impl Argument for Cpuid {
    const SET: Option<Ioctl> = Some(_IOW::<kvm_cpuid2>(KVMIO, 0x90));
    // KVM_GET_SUPPORTED_CPUID, of the system: writes no more entries than `head` has room for.
    const GET: Option<Ioctl> = Some(_IOWR::<kvm_cpuid2>(KVMIO, 0x05));
}

/// Opens a device node.
pub(crate) fn open(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: a string with its end.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    own(fd)
}

/// An ioctl whose argument is a number, and whose result is one.
pub(crate) fn call(fd: &OwnedFd, request: Ioctl, value: u64) -> io::Result<i32> {
    // SAFETY: the requests of this module that come here take a number, and touch no memory.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An ioctl whose argument is a number, and whose result is a file descriptor.
pub(crate) fn create(fd: &OwnedFd, request: Ioctl, value: u64) -> io::Result<OwnedFd> {
    call(fd, request, value).and_then(own)
}

/// Gives `argument` to the kernel.
pub(crate) fn set<A: Argument>(fd: &OwnedFd, argument: &A) -> io::Result<()> {
    let request = A::SET.ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: the kernel reads the structure that the request names, which `argument` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_ref(argument)) })
}

/// Lets the kernel fill `argument`.
pub(crate) fn get<A: Argument>(fd: &OwnedFd, argument: &mut A) -> io::Result<()> {
    let request = A::GET.ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: the kernel writes the structure that the request names, which `argument` is; any
    // bytes are a value of it, since it holds only integers.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) })
}

/// `KVM_RUN`.
#[inline]
pub(crate) fn run(vcpu: &OwnedFd) -> io::Result<()> {
    // SAFETY: no argument; what it writes are mappings, to which nobody holds a reference.
    check(unsafe { libc::ioctl(vcpu.as_raw_fd(), RUN, 0) })
}

#[inline]
fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: open, and just made by the kernel for this caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
