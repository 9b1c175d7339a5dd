//! A machine with one processor, made by nothing but ioctls.

use std::{io, mem::offset_of, os::fd::OwnedFd};

use kvm_bindings::{
    KVM_API_VERSION, KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_MMIO, KVM_PIT_SPEAKER_DUMMY,
    kvm_pit_config, kvm_run, kvm_userspace_memory_region,
};

use crate::{
    ioctl::{self, Cpuid, IdentityMap},
    mapping::Mapping,
};

/// Where the part of the run page starts that depends on the exit.
const UNION: usize = offset_of!(kvm_run, __bindgen_anon_1);
const REASON: usize = offset_of!(kvm_run, exit_reason);

/// A machine with one processor, an interrupt controller and a timer, like those of Purlin.
#[derive(Debug)]
pub struct Machine {
    pub(crate) vcpu: OwnedFd,
    _vm: OwnedFd,
    page: Mapping,
    pub(crate) ram: Mapping,
}

/// What the guest did at its last exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It wrote this byte to this port.
    Out(u16, u8),
    /// It read a byte, and will get a zero.
    Read,
    /// It wrote this byte to memory that is not there.
    Write(u8),
}

impl Machine {
    /// A machine with `bytes` of RAM from address 0 on, in the order that is cheapest: interrupt
    /// controllers after memory.
    ///
    /// # Errors
    /// What the host said.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let kvm = ioctl::open(c"/dev/kvm")?;
        if u32::try_from(ioctl::call(&kvm, ioctl::GET_API_VERSION, 0)?) != Ok(KVM_API_VERSION) {
            return Err(io::Error::other("KVM speaks another version than 12"));
        }
        let vm = ioctl::create(&kvm, ioctl::CREATE_VM, 0)?;
        ioctl::set(&vm, &IdentityMap(0xfeff_c000))?;
        ioctl::call(&vm, ioctl::SET_TSS_ADDR, 0xfeff_d000)?;
        let ram = Mapping::new(bytes, None)?;
        ioctl::set(
            &vm,
            &kvm_userspace_memory_region {
                memory_size: ram.len() as u64,
                userspace_addr: ram.address(),
                ..kvm_userspace_memory_region::default()
            },
        )?;
        ioctl::call(&vm, ioctl::CREATE_IRQCHIP, 0)?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
        ioctl::set(&vm, &pit)?;
        let vcpu = ioctl::create(&vm, ioctl::CREATE_VCPU, 0)?;
        let size = ioctl::call(&kvm, ioctl::GET_VCPU_MMAP_SIZE, 0)?;
        let page = Mapping::new(usize::try_from(size).map_err(io::Error::other)?, Some(&vcpu))?;
        let mut cpuid = Cpuid::new();
        ioctl::get(&kvm, &mut cpuid)?;
        ioctl::set(&vcpu, &cpuid)?;
        Ok(Self { vcpu, _vm: vm, page, ram })
    }

    /// Runs the guest up to its next exit, and answers it.
    ///
    /// # Errors
    /// What the host said, or that the exit is not a port's or memory's.
    #[inline]
    pub fn step(&mut self) -> io::Result<Seen> {
        ioctl::run(&self.vcpu)?;
        match self.page.word(REASON) {
            KVM_EXIT_IO => Ok(self.port()),
            KVM_EXIT_MMIO => Ok(self.memory()),
            other => Err(io::Error::other(format!("exit {other}, not a port's or memory's"))),
        }
    }

    /// `io`: direction, size, port (2), count (4), offset of the data in the page (8).
    #[inline]
    fn port(&self) -> Seen {
        let [direction, _, low, high] = self.page.word(UNION).to_ne_bytes();
        let data = self.page.word(UNION + 8) as usize;
        if u32::from(direction) == KVM_EXIT_IO_IN {
            self.page.set_byte(data, 0);
            Seen::Read
        } else {
            Seen::Out(u16::from_le_bytes([low, high]), self.page.byte(data))
        }
    }

    /// `mmio`: address (8), data (8), length (4), whether it is a write (1).
    #[inline]
    fn memory(&self) -> Seen {
        if self.page.byte(UNION + 20) == 0 {
            self.page.set_byte(UNION + 8, 0);
            Seen::Read
        } else {
            Seen::Write(self.page.byte(UNION + 8))
        }
    }
}
