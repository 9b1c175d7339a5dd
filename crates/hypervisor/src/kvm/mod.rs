//! The Linux kernel's hypervisor.
