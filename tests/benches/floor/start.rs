//! What a processor looks like when it starts.

use std::io;

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use crate::{
    Machine,
    guest::{LOOP_ENTRY, Loop, TINY, TINY_ENTRY},
    ioctl,
};

/// Page tables that map the first GiB to itself: one page of each level, the last with pages of
/// 2 MiB.
const TABLES: usize = 0x9000;
const PAGE: usize = 0x1000;
/// Present and writable; and a page rather than a table.
const TABLE: u64 = 0x3;
const LARGE: u64 = 0x83;

impl Machine {
    /// Loads one of the loops, and enters it in real mode.
    ///
    /// # Errors
    /// What the host said.
    pub fn enter_loop(&mut self, which: Loop) -> io::Result<()> {
        self.ram.write(LOOP_ENTRY.into(), &which.code());
        self.enter(LOOP_ENTRY.into(), |sregs| {
            sregs.cs.base = 0;
            sregs.cs.selector = 0;
        })
    }

    /// Loads [`TINY`], and enters it in long mode.
    ///
    /// # Errors
    /// What the host said.
    pub fn enter_tiny(&mut self) -> io::Result<()> {
        let place = usize::try_from(TINY_ENTRY).map_err(io::Error::other)?;
        self.ram.write(place, &TINY);
        let (second, third) = (TABLES + PAGE, TABLES + 2 * PAGE);
        self.ram.write(TABLES, &(second as u64 | TABLE).to_le_bytes());
        self.ram.write(second, &(third as u64 | TABLE).to_le_bytes());
        for (number, at) in (0..512_u64).zip((third..).step_by(8)) {
            self.ram.write(at, &(number << 21 | LARGE).to_le_bytes());
        }
        self.enter(TINY_ENTRY, |sregs| {
            let data = segment(0x18, 3, 0);
            sregs.cs = segment(0x10, 0xb, 1);
            (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
            (sregs.cr0, sregs.cr3, sregs.cr4) = (0x8000_0011, TABLES as u64, 0x20);
            sregs.efer = 0x500;
        })
    }

    fn enter(&self, rip: u64, change: impl FnOnce(&mut kvm_sregs)) -> io::Result<()> {
        let mut sregs = kvm_sregs::default();
        ioctl::get(&self.vcpu, &mut sregs)?;
        change(&mut sregs);
        ioctl::set(&self.vcpu, &sregs)?;
        ioctl::set(&self.vcpu, &kvm_regs { rip, rflags: 2, ..kvm_regs::default() })
    }
}

/// A flat segment; `long` of 1 is 64-bit code.
fn segment(selector: u16, type_: u8, long: u8) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        l: long,
        db: 1 - long,
        ..kvm_segment::default()
    }
}
