//! The page that KVM and this process share for each vCPU (`struct kvm_run`, and the data of port
//! accesses behind it), as plain bytes.
#![expect(unsafe_code, reason = "maps memory that the kernel writes")]

use std::{io, os::fd::AsRawFd, ptr::NonNull};

/// The mapping of one vCPU's run page. KVM touches it only inside ioctls on the same vCPU.
#[derive(Debug)]
pub(super) struct RunPage {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an owned mapping, valid on every thread.
unsafe impl Send for RunPage {}

impl RunPage {
    /// Maps `len` bytes (`KVM_GET_VCPU_MMAP_SIZE`) of the vCPU.
    pub(super) fn map(vcpu: &impl AsRawFd, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address) {
            Some(start) if address != libc::MAP_FAILED => Ok(Self { start: start.cast(), len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The page, as the last ioctl left it.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` mapped bytes, which live as long as `self`. The kernel writes them only in
        // ioctls on this vCPU, all of which are made by its owner, who gives out no reference
        // across them; the guest cannot reach them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The page, to be answered in.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as `bytes`, and `&mut self` excludes every other reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
